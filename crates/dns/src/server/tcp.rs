//! TCP: one task a connection, one question at a time, everything bounded (RFC 7766).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::serve::{Shared, Step};
use crate::metrics::{Panics, add};
use crate::wire::{HEADER, Transport};

/// Accepts until the task is ended; its connections end with it.
pub(super) async fn serve(shared: Arc<Shared>, listener: TcpListener, connections: Arc<Semaphore>) {
    let mut open = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_ended) = open.join_next() => continue,
        };
        let stream = match stream {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: waiting is all that helps.
                debug!(%error, "TCP accept failed");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            add(&shared.metrics.tcp_rejects, 1);
            continue;
        };
        let shared = Arc::clone(&shared);
        open.spawn(async move {
            let _panics = Panics(&shared.metrics);
            if let Err(error) = converse(&shared, stream).await {
                debug!(%error, "TCP connection ended");
            }
            drop(permit);
        });
    }
}

async fn converse(shared: &Shared, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let limits = shared.config.tcp;
    for _ in 0..limits.questions {
        let question = timeout(limits.idle, read(&mut stream)).await??;
        add(&shared.metrics.queries_tcp, 1);
        let answer = match shared.begin(&question, Transport::Tcp) {
            Step::Nothing => return Ok(()),
            Step::Done(answer) => answer,
            Step::Ask(pending) => shared.finish(pending).await,
        };
        timeout(limits.idle, write(&mut stream, &answer)).await??;
    }
    Ok(())
}

async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if !(HEADER..=LARGEST_QUESTION).contains(&length) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a question of {length} bytes"),
        ));
    }
    let mut question = vec![0; length];
    stream.read_exact(&mut question).await?;
    Ok(question)
}

async fn write(stream: &mut TcpStream, answer: &[u8]) -> io::Result<()> {
    let length = u16::try_from(answer.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut framed = Vec::with_capacity(2 + answer.len());
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(answer);
    stream.write_all(&framed).await
}

/// No sensible question is longer.
const LARGEST_QUESTION: usize = 4096;
/// After an error of the listener itself.
const PAUSE: Duration = Duration::from_millis(10);
