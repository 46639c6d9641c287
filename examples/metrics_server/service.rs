//! The endpoints, and the load behind them.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use turbostream::PrometheusRecorder;

use crate::load::{Load, Rates, Sent};

pub(crate) struct Service {
    address: SocketAddr,
    load: Load,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Service {
    /// Starts to listen, and the load.
    pub(crate) async fn start(listen: SocketAddr, rates: Rates) -> Result<Self> {
        let recorder = Arc::new(PrometheusRecorder::new());
        let load = Load::start(&recorder, rates)?;
        let router = Router::new()
            .route("/", get(|| async { Html(include_str!("page.html")) }))
            .route("/metrics", get(metrics))
            .with_state(recorder);
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, load, serving })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the load, and returns what was sent; goes on to listen until it is dropped.
    pub(crate) async fn stop_load(&mut self) -> Result<Vec<Sent>> {
        self.load.stop().await
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What Prometheus scrapes.
async fn metrics(State(recorder): State<Arc<PrometheusRecorder>>) -> Response {
    match recorder.render() {
        Ok(text) => ([(header::CONTENT_TYPE, PrometheusRecorder::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
