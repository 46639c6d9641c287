mod sink_and_stream;
mod callbacks;
mod reader;
mod writer;
mod tracing_writer;
