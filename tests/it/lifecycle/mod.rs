mod lifecycle;
mod handles;
mod auto_traits;
