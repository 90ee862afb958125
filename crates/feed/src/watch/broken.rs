//! Why a watch stopped.

use std::time::Duration;

use thiserror::Error;

use super::items::ItemsError;
use super::lines::TooLong;
use crate::decode::StatusError;

/// Why a watch or list stopped, if not in order.
#[derive(Debug, Error)]
pub(super) enum Broken {
    #[error("{}", causes(.0))]
    Client(#[from] kube::Error),
    #[error("no answer within {} s", .0.as_secs())]
    NoAnswer(Duration),
    #[error("the API answered {}", answered(.0))]
    Status(StatusError),
    #[error("nothing heard for {} s", .0.as_secs())]
    Silence(Duration),
    #[error("the API accepted a streamed list, and nothing of it came for {} s", .0.as_secs())]
    NothingStreamed(Duration),
    #[error("a part of a streamed list came, and nothing more for {} s", .0.as_secs())]
    ListStalled(Duration),
    #[error("the answer ended before its list was complete")]
    ListCut,
    #[error("{0}")]
    TooLong(#[from] TooLong),
    #[error("{0}")]
    Items(#[from] ItemsError),
    #[error("the list has no readable metadata: {0}")]
    Metadata(#[source] serde_json::Error),
    #[error("the feed has stopped")]
    Stopped,
}

/// The code, and the words that came with it.
fn answered(status: &StatusError) -> String {
    let words = [status.reason.as_str(), status.message.as_str()];
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    format!("{} {}", status.code, words.join(": "))
        .trim_end()
        .to_owned()
}

/// An error and what it came from, each told once: what a connection failed of stands at the end of the chain.
fn causes(error: &dyn std::error::Error) -> String {
    // kube's and hyper's words for "the client failed" say nothing.
    let whole = error.to_string();
    let text = whole.trim_start_matches("ServiceError: ");
    let mut text = text
        .trim_start_matches("client error (Connect): ")
        .to_owned();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
