//! The bytes that are sent decode to the program that was meant.

use daymark_case::random::{Size, case};
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::compile::Compiler;
use daymark_dataplane::nft::program::Program;
use daymark_model::World;
use daymark_netlink::frame;
use daymark_netlink::nft::{Batch, Message};

/// The messages in the bytes of transactions: everything but begin and end.
fn sent(messages: &[Message], limit: usize) -> Vec<Message> {
    let mut batch = Batch::new(limit);
    for message in messages {
        batch.push(message).expect("short enough");
        batch.border().expect("short enough");
    }
    let mut decoded = Vec::new();
    for transaction in batch.finish().expect("short enough") {
        let frames = frame::walk(transaction.bytes()).map(|frame| frame.expect("whole"));
        let inner = frames.filter(|frame| frame.header.kind >> 8 != 0);
        decoded.extend(inner.map(|frame| Message::decode(&frame).expect("our own message")));
    }
    decoded
}

#[test]
fn what_is_sent_decodes_to_the_program_that_was_meant() {
    for seed in 5_000..5_020 {
        let case = case(seed, Size::default());
        let mut world = World::new(case.options.clone());
        let (mut compiler, create) = Compiler::new(TableFlags::NONE);
        let mut received = Program::default();
        let mut take = |messages: &[Message], limit| {
            for message in sent(messages, limit) {
                received.take(&message).expect("what the kernel takes");
            }
        };
        take(&create, Batch::LIMIT);
        for step in &case.steps {
            let update = compiler.update(&world.apply(step.changes.iter().cloned()));
            for transaction in &update.transactions {
                // Small transactions, so that lists are divided too.
                take(transaction, 2_000);
            }
        }
        assert_eq!(&received, compiler.program(), "seed {seed}");
    }
}
