//! Adapters of the two ends: sink, stream, reader, writer, callbacks and the tracing writer.

mod callbacks;
mod parked_items;
mod reader;
mod sink_and_stream;
mod tracing_writer;
mod writer;
