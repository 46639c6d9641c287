mod regressions;
mod go_port_regressions;
