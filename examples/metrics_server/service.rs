//! The two endpoints of the example, and the load that they show.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use turbostream::PrometheusRecorder;

use crate::load::{Load, Rates, Sent};

pub(crate) struct Service {
    address: SocketAddr,
    load: Load,
    serving: JoinHandle<()>,
}

impl Service {
    /// Binds the listener and starts the load.
    pub(crate) async fn start(listen: SocketAddr, rates: Rates) -> Result<Self> {
        let recorder = Arc::new(PrometheusRecorder::new());
        let load = Load::start(&recorder, rates)?;
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let serving = tokio::spawn(serve(listener, recorder));
        Ok(Self { address, load, serving })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops the load and returns what was sent. The endpoints stay up until the service is dropped.
    pub(crate) async fn stop_load(&mut self) -> Result<Vec<Sent>> {
        self.load.stop().await
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Accepts connections and answers their requests, each connection in its own task.
async fn serve(listener: TcpListener, recorder: Arc<PrometheusRecorder>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await; // too many open files, usually
            continue;
        };
        let recorder = Arc::clone(&recorder);
        let answers = service_fn(move |request| {
            let response = respond(&request, &recorder);
            async move { Ok::<_, Infallible>(response) }
        });
        connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), answers));
        while connections.try_join_next().is_some() {} // a client that disconnects early is no error
    }
}

fn respond(request: &Request<Incoming>, recorder: &PrometheusRecorder) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if path != "/" && path != "/metrics" {
        return response(StatusCode::NOT_FOUND, None, "");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, None, "");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET,HEAD"));
        return refused;
    }
    if path == "/" {
        return response(StatusCode::OK, Some("text/html; charset=utf-8"), include_str!("page.html"));
    }
    match recorder.render() {
        Ok(text) => response(StatusCode::OK, Some(PrometheusRecorder::CONTENT_TYPE), text),
        Err(error) => {
            response(StatusCode::INTERNAL_SERVER_ERROR, Some("text/plain; charset=utf-8"), error.to_string())
        }
    }
}

fn response(
    status: StatusCode,
    content_type: Option<&'static str>,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    if let Some(content_type) = content_type {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}
