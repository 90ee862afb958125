//! A list in pages, of a server that streams none.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::broken::Broken;
use super::items::{Items, ItemsError};
use super::request::{Age, Ask};
use super::{Known, Lists, Messages, Newest, Progress, Watch};
use crate::decode::{self, Context, ListMeta, StatusError};
use crate::metrics::add;

impl Watch {
    /// All pages of a list.
    pub(super) async fn list(&mut self, progress: &mut Progress) -> Result<(), Broken> {
        let mut limit = PAGE;
        let mut token: Option<String> = None;
        self.begin_list().await?;
        loop {
            let newest = self.newest.clone();
            let age = match &newest {
                Newest::Unknown => Age::Any,
                Newest::Seen(revision) => Age::NotBefore(revision),
                Newest::Refused => Age::Newest,
            };
            let ask = match token.as_deref() {
                Some(token) => Ask::Page { limit, token },
                None => Ask::List { limit, age },
            };
            let meta = match self.page(&ask).await {
                // The list took longer than the server remembers: once more, as one page.
                Err(Broken::Status(status)) if status.code == 410 && token.is_some() => {
                    (limit, token) = (0, None);
                    self.begin_list().await?;
                    continue;
                }
                Err(broken) => {
                    self.doubt(&broken, age);
                    return Err(broken);
                }
                Ok(meta) => meta,
            };
            if meta.next.is_empty() {
                *progress = Progress::Some;
                let end = self.list_ends();
                self.send(vec![end]).await?;
                add(&self.counters().lists, 1);
                self.known = Known::AList;
                self.stand_at(meta.resource_version);
                if self.lists == Lists::PagedOnce {
                    self.lists = Lists::Streamed;
                }
                return Ok(());
            }
            token = Some(meta.next);
        }
    }

    /// A server that cannot list from a revision on (it has not come so far, or does not know it) is asked for its newest state; one
    /// that is only late is not, since that is more work for it.
    fn doubt(&mut self, broken: &Broken, age: Age<'_>) {
        if let Broken::Status(status) = broken
            && matches!(age, Age::NotBefore(_))
            && (matches!(status.code, 400 | 410)
                || status.code == 504 && status.message.contains(TOO_LARGE))
        {
            self.newest = Newest::Refused;
        }
    }

    /// One page; its items go out while it arrives.
    async fn page(&mut self, ask: &Ask<'_>) -> Result<ListMeta, Broken> {
        let mut body = self.open(ask, LIST).await?;
        let mut items = Items::default();
        while let Some(chunk) = self.chunk(&mut body, self.config.silence).await? {
            let (messages, error) = self.take_items(&chunk, &mut items)?;
            self.send(messages).await?;
            if let Some(status) = error {
                return Err(Broken::Status(status));
            }
        }
        serde_json::from_slice(&items.finish()?).map_err(Broken::Metadata)
    }

    fn take_items(
        &mut self,
        chunk: &[u8],
        items: &mut Items,
    ) -> Result<(Messages, Option<StatusError>), ItemsError> {
        let names = Arc::clone(&self.names);
        let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
        let mut messages = Vec::new();
        let mut error = None;
        items.push(chunk, |item| {
            let mut context = Context {
                kind: self.kind,
                nodes: &self.config.nodes,
                names: &mut names,
            };
            match decode::item(item, &mut context) {
                Ok(object) => messages.push(self.put(object)),
                Err(status) => error = Some(status),
            }
        })?;
        add(&self.counters().received, messages.len());
        Ok((messages, error))
    }
}

/// What a 504 says when a server has not come to a revision within three seconds (kubernetes
/// `staging/src/k8s.io/apiserver/pkg/storage/errors.go`); others are of a server that is busy.
const TOO_LARGE: &str = "Too large resource version";
/// How many objects a page of a list holds.
const PAGE: usize = 500;
/// Patience for the answer to a list request.
const LIST: Duration = Duration::from_secs(60);
