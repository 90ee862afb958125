//! The machine's addresses, followed in the kernel while they come and go.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use daymark_node::addresses::{Listen, follow};
use daymark_sys::ns::isolated_test;
use tokio::runtime::Runtime;

use crate::fixture::{add_addresses, remove_address};

/// Waits for a list; two changes may come as one.
fn until(news: &Receiver<String>, expected: &str) {
    let mut last = String::new();
    while last != expected {
        let next = news.recv_timeout(Duration::from_secs(5));
        last = next.unwrap_or_else(|_| panic!("{last:?} is the last, and not {expected:?}"));
    }
}

#[test]
fn an_address_is_told_as_soon_as_it_comes_and_goes() {
    isolated_test(
        "addresses::an_address_is_told_as_soon_as_it_comes_and_goes",
        || {
            let runtime = Runtime::new().expect("a runtime");
            runtime.block_on(add_addresses(&["172.30.0.11"]));
            let (told, news) = channel();
            let followed = follow(move |list| {
                let shown: Vec<String> = list.iter().map(ToString::to_string).collect();
                match told.send(shown.join(" ")) {
                    Ok(()) => Listen::On,
                    Err(_) => Listen::Stop,
                }
            });
            let following = runtime.spawn(followed);
            until(&news, "172.30.0.11");
            // Loopback and link-local addresses are none that could serve.
            runtime.block_on(add_addresses(&["127.0.0.9", "169.254.0.9", "fd00:30::11"]));
            until(&news, "172.30.0.11 fd00:30::11");
            runtime.block_on(add_addresses(&["172.30.0.12"]));
            until(&news, "172.30.0.11 172.30.0.12 fd00:30::11");
            runtime.block_on(remove_address("172.30.0.11"));
            until(&news, "172.30.0.12 fd00:30::11");
            following.abort();
        },
    );
}
