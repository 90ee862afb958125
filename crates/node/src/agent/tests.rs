use axum::Router;
use daymark_dataplane::nft::apply::CommitError;
use daymark_dataplane::nft::program::Program;
use daymark_feed::{Config, Feed, PlaneStatus, plane_channel};
use daymark_netlink::nft::{Message, Ruleset, TableId};
use tokio::time::timeout;

use super::*;
use crate::ask::Ask;
use crate::events::board;

/// A kernel that cannot be read back.
struct Breaks(Program);

impl Kernel for Breaks {
    fn commit(&mut self, messages: &[Message]) -> Result<(), CommitError> {
        self.0.commit(messages)
    }

    fn read(&mut self, table: &TableId) -> Result<Option<Ruleset>, CommitError> {
        assert_eq!(self.0.tables().count(), 0, "read after the tables came up");
        self.0.read(table)
    }
}

fn start(kernel: impl Kernel + Send + 'static) -> Agent {
    let (status, _plane) = plane_channel(PlaneStatus::Starting);
    let started = Agent::start(
        kernel,
        TableFlags::NONE,
        Options::default(),
        status,
        Arc::default(),
        board().0,
    );
    started.unwrap()
}

#[tokio::test]
async fn the_threads_of_one_that_is_dropped_end() {
    let agent = start(Program::default());
    let mut alive = agent.alive.clone();
    drop(agent);
    let ended = timeout(Duration::from_secs(30), alive.changed()).await;
    ended.expect("it ends").unwrap_err();
}

#[tokio::test]
async fn that_the_planes_thread_has_ended_is_noticed_without_a_batch() {
    let agent = start(Breaks(Program::default()));
    // An API that never answers.
    let api = Router::new().fallback(std::future::pending::<()>);
    let client = kube::Client::new(api, "default");
    let feed = Feed::start(&client, Config::node("node-1"));
    let soon = Duration::from_secs(30);
    let follows = agent.follow(feed.subscribe(), None);
    let (reply, answer) = oneshot::channel();
    let look = async {
        agent.orders().send(Order::Ask(Ask::Look(reply))).unwrap();
        answer.await.unwrap_err();
    };
    let (ended, ()) = tokio::join!(timeout(soon, follows), look);
    assert_eq!(ended.expect("noticed"), Ended::Plane);
}
