mod events;
mod recorder;
mod prometheus_text;
