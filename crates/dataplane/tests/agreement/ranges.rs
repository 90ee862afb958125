//! Lists of source ranges follow each other, cut at every element: who is in both is never kept out, who is in neither is never
//! let in, and no set ever holds two ranges that overlap, which the kernel would refuse.

use std::collections::{BTreeMap, BTreeSet};

use daymark_case::random::Random;
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::compile::{Compiler, Update};
use daymark_dataplane::nft::layout::{Words, set};
use daymark_dataplane::nft::program::Program;
use daymark_dataplane::nft::trace::{self, Host, Memory, Moments};
use daymark_model::decide::Arrival;
use daymark_model::{Delta, Desired, Family, Packet, Protocol};
use daymark_netlink::nft::SetElem;

use crate::common::{compiled_desired, pieces, sizes, world_of};
use crate::singles;

/// All clients that there are: 10.0.0.0/28.
const CLIENTS: u8 = 16;

/// Some prefixes among the clients, perhaps none, and the state with them.
fn some(random: &mut Random) -> Desired {
    let ranges: Vec<String> = (0..random.below(5))
        .map(|_| {
            let length = 28 + random.below(5);
            let first = random.below(usize::from(CLIENTS)) & !((1 << (32 - length)) - 1);
            format!("10.0.0.{first}/{length}")
        })
        .collect();
    let ranges = match ranges.is_empty() {
        true => String::new(),
        false => format!(" ranges={}", ranges.join(",")),
    };
    let text = format!(
        "node node-1 172.30.0.11\n\
         service web LoadBalancer 80/TCP cluster=10.96.0.20 lb=172.30.0.200{ranges}\n\
         endpoint 10.244.1.5 ready on node-1\n"
    );
    world_of(&text).desired().clone()
}

/// The ends of the ranges of a set, each as the last byte of an address.
fn held(program: &Program, name: &str) -> Vec<[u8; 2]> {
    let table = program.table(&Words::of(Family::V4).table());
    let last = |key: &[u8]| *key.last().expect("an address");
    let ends = |elem: SetElem| [last(&elem.key), last(elem.key_end().expect("a range"))];
    table.expect("our table").elements(name).map(ends).collect()
}

/// Who may come; a plan that does not ask lets everybody in, and is another test's.
fn admitted(program: &Program) -> BTreeSet<u8> {
    let all = set::RANGES.map(|name| held(program, name));
    for ranges in &all {
        let overlap = ranges.windows(2).find(|pair| pair[1][0] <= pair[0][1]);
        assert_eq!(overlap, None, "in one set");
    }
    let ranges = all.concat();
    let is_in = |client: &u8| {
        ranges
            .iter()
            .any(|[first, last]| (first..=last).contains(&client))
    };
    (0..CLIENTS).filter(is_in).collect()
}

/// Carries pieces of an update out: after each, `always` may come, and of all others `perhaps`.
fn hold(program: &mut Program, update: &Update, cut: usize, [always, perhaps]: [&BTreeSet<u8>; 2]) {
    for piece in pieces(update).iter().take(cut) {
        program.apply(piece).expect("what the kernel takes");
        let now = admitted(program);
        assert!(
            now.is_superset(always),
            "{now:?} after {piece:?}, not {always:?}"
        );
        assert!(
            now.is_subset(perhaps),
            "{now:?} after {piece:?}, not of {perhaps:?}"
        );
    }
}

#[test]
fn lists_follow_each_other_and_who_is_in_both_is_never_kept_out() {
    let mut random = Random::new(9_000);
    let mut used = [0; 2];
    let (mut compiler, _) = Compiler::new(TableFlags::NONE);
    for _ in 0..CHANGES {
        let new = some(&mut random);
        let mut program = compiler.program().clone();
        let delta = Delta::between(compiler.desired(), &new);
        let update = compiler.update(&delta);
        let [before, behind] = [&program, compiler.program()].map(admitted);
        let bounds = [&(&before & &behind), &(&before | &behind)];
        hold(&mut program, &update, usize::MAX, bounds);
        assert_eq!(&program, compiler.program());
        assert_eq!(sizes(&program), sizes(&compiled_desired(&new)));
        let in_use = set::RANGES.map(|name| !held(&program, name).is_empty());
        assert_ne!(in_use, [true; 2], "all ranges of a frontend are in one set");
        used[0] += usize::from(in_use[0]);
        used[1] += usize::from(in_use[1]);
    }
    assert!(used.iter().all(|times| *times > CHANGES / 5), "{used:?}");
}

#[test]
fn an_agent_that_dies_between_two_lists_keeps_nobody_out_either() {
    let mut random = Random::new(9_001);
    for _ in 0..CHANGES {
        let [old, new, other] = [(); 3].map(|()| some(&mut random));
        let mut compiler = Compiler::new(TableFlags::NONE).0;
        compiler.update(&Delta::between(&Desired::default(), &old));
        let mut program = compiler.program().clone();
        let update = compiler.update(&Delta::between(&old, &new));
        let [before, behind] = [&program, compiler.program()].map(admitted);
        let both = &before & &behind;
        let cut = random.below(pieces(&update).len() + 1);
        hold(&mut program, &update, cut, [&both, &(&before | &behind)]);
        // The list that was to come, or another one, which may overlap both: then who is in all three may have to ask again.
        for (next, always) in [(&new, both), (&other, BTreeSet::new())] {
            let mut program = program.clone();
            let adopted = Compiler::adopt(program.clone(), TableFlags::NONE);
            let mut compiler = adopted.expect("a table of this layout");
            let update = compiler.reconcile(next.clone());
            let found = admitted(&program);
            let wanted = admitted(compiler.program());
            hold(
                &mut program,
                &update,
                usize::MAX,
                [&always, &(&found | &wanted)],
            );
            assert_eq!(&program, compiler.program());
            assert_eq!(sizes(&program), sizes(&compiled_desired(next)));
        }
    }
}

/// From a client to the load balancer.
fn packet(client: u8) -> Packet {
    Packet {
        arrival: Arrival::Link,
        interface: None,
        source: [10, 0, 0, client].into(),
        destination: [172, 30, 0, 200].into(),
        port: 80,
        protocol: Protocol::Tcp,
    }
}

/// All commits of a change lie between any two questions of a packet.
fn ask(states: [&Desired; 2], programs: [&Program; 2], packet: &Packet) {
    let allowed = states.map(|desired| singles::of_model(desired, packet));
    let addresses = &states[1].own_addresses;
    let [before, after] = programs.map(|program| Host { program, addresses });
    for asked_before in 1.. {
        let moments = Moments {
            before,
            after,
            asked_before,
        };
        let walked = trace::across(moments, packet, 0, &mut Memory::default());
        let (got, _, asked) = walked.expect("programs that fit together");
        assert!(
            allowed.iter().any(|allowed| allowed.contains(&got)),
            "{packet:?} got {got:?} with a change behind question {asked_before}, not of {allowed:?}"
        );
        if asked <= asked_before {
            return;
        }
    }
}

#[test]
fn a_list_that_moves_between_two_questions_of_a_packet_is_found_all_the_same() {
    let mut random = Random::new(9_002);
    let mut moves = BTreeMap::new();
    let (mut compiler, _) = Compiler::new(TableFlags::NONE);
    for _ in 0..CHANGES {
        let (old, new) = (compiler.desired().clone(), some(&mut random));
        let before = compiler.program().clone();
        compiler.update(&Delta::between(&old, &new));
        let after = compiler.program();
        let sides = [&before, after].map(|program| {
            let mut sides = set::RANGES.into_iter();
            sides.position(|name| !held(program, name).is_empty())
        });
        // Where everybody may come, before or behind, another plan does it: its rules are those of the moment when the packet came.
        if sides.contains(&None) {
            continue;
        }
        *moves.entry(sides).or_insert(0) += 1;
        let packets = (0..CLIENTS).map(packet);
        packets.for_each(|packet| ask([&old, &new], [&before, after], &packet));
    }
    let enough = moves.len() == 4 && moves.values().all(|times| *times > 10);
    assert!(enough, "from and to either set: {moves:?}");
}

const CHANGES: usize = 300;
