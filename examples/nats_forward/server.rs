//! The server and the stream: those that the command line names, or an own server in a temporary folder.

use std::error::Error;
use std::fmt;

use anyhow::{Context as _, anyhow, bail};
use async_nats::jetstream::context::GetStreamByNameErrorKind;
use async_nats::jetstream::stream::{Config, StorageType, Stream};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, ServerAddr};
use turbostream::forward::{JetStream, JetStreamEvents};

use crate::Options;
use crate::nats_server::{HOW_TO_INSTALL, NatsServer, is_installed};

/// A connection, and the stream that takes the lines.
pub(crate) struct Connected {
    context: Context,
    events: JetStreamEvents,
    pub(crate) stream: Stream,
    /// The stream's last sequence before the first line.
    pub(crate) last_before: u64,
    address: String,
}

impl Connected {
    pub(crate) fn destination(&self, options: &Options) -> JetStream {
        JetStream::new(self.context.clone(), options.subject.clone()).events(self.events.clone())
    }

    /// Describes the stream.
    pub(crate) fn name(&self, options: &Options) -> String {
        format!("stream {} at {}, subject {}", options.stream, self.address, options.subject)
    }
}

/// No server was named, and none can be started.
#[derive(Debug)]
pub(crate) struct NotInstalled;

impl fmt::Display for NotInstalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "without --server, this example starts its own, but {HOW_TO_INSTALL}")
    }
}

impl Error for NotInstalled {}

/// Starts a server of its own if none is named. It ends when the returned value is dropped.
pub(crate) fn start_own(options: &Options) -> anyhow::Result<Option<NatsServer>> {
    if options.server.is_some() {
        return Ok(None);
    }
    if !is_installed() {
        bail!(NotInstalled);
    }
    Ok(Some(tokio::task::block_in_place(|| NatsServer::start(""))))
}

/// Connects, and makes the stream unless it is there.
pub(crate) async fn connect(options: &Options, url: &str) -> anyhow::Result<Connected> {
    let addresses: Vec<ServerAddr> = url
        .split(',')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .context("--server is not an address such as nats://127.0.0.1:4222")?;
    // The password that an address may have is not shown.
    let shown: Vec<_> = addresses.iter().map(|one| format!("{}:{}", one.host(), one.port())).collect();
    let address = shown.join(", ");

    let events = JetStreamEvents::new();
    let client = connect_client(options, addresses, &events, &address).await?;
    let context = jetstream::new(client);
    let mut stream = open_stream(options, &context, &address).await?;
    let info = stream.info().await.context("cannot ask for the stream's state")?;
    let last_before = info.state.last_sequence;
    Ok(Connected { context, events, stream, last_before, address })
}

async fn connect_client(
    options: &Options,
    addresses: Vec<ServerAddr>,
    events: &JetStreamEvents,
    address: &str,
) -> anyhow::Result<Client> {
    let mut settings = ConnectOptions::new().name("nats_forward").event_callback(events.callback());
    // async-nats leaves what an address has of credentials to its user.
    let named = addresses.iter().find_map(|address| Some((address.username()?, address.password())));
    settings = match named {
        Some((user, Some(password))) => settings.user_and_password(user.into(), password.into()),
        Some((token, None)) => settings.token(token.into()),
        None => settings,
    };
    if let Some(file) = &options.credentials {
        let read = settings.credentials_file(file).await;
        settings = read.with_context(|| format!("cannot read the credentials of {}", file.display()))?;
    }
    settings.connect(addresses).await.map_err(|error| {
        let hint = match error.kind() {
            ConnectErrorKind::Io | ConnectErrorKind::TimedOut => {
                "; start one by `nats-server -js`, or leave out --server"
            }
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                "; pass --credentials FILE, or --server nats://USER:PASSWORD@HOST:PORT"
            }
            _ => "",
        };
        // Of refused credentials the kind says all; other errors have their reason in them.
        let is_refused = error.kind() == ConnectErrorKind::AuthorizationViolation;
        let reason = if is_refused { error.kind().to_string() } else { error.to_string() };
        anyhow!("no connection to a server at {address}: {reason}{hint}")
    })
}

async fn open_stream(options: &Options, context: &Context, address: &str) -> anyhow::Result<Stream> {
    let Options { stream: name, subject, .. } = options;
    match context.stream_by_subject(subject).await {
        Ok(found) if found == *name => {
            let opened = context.get_stream(name).await;
            opened.map_err(|error| anyhow!("cannot open the stream {name}: {error}"))
        }
        Ok(found) => {
            bail!("the subject {subject} belongs to the stream {found}: name it by --stream {found}")
        }
        Err(error) if error.kind() == GetStreamByNameErrorKind::NotFound => {
            let config = Config {
                name: name.clone(),
                subjects: vec![subject.clone()],
                storage: StorageType::File,
                ..Config::default()
            };
            let created = context.create_stream(config).await;
            created.map_err(|error| {
                anyhow!("cannot create the stream {name} with the subject {subject}: {error}")
            })
        }
        Err(error) if error.kind() == GetStreamByNameErrorKind::InvalidSubject => {
            bail!("--subject {subject:?} is not a subject")
        }
        Err(error) => bail!(
            "cannot ask the server at {address} for its streams: {error}; JetStream is enabled by `nats-server -js`"
        ),
    }
}
