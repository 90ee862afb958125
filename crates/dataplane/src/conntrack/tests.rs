//! Against a table that answers as no kernel at hand does.

use daymark_case::Case;
use daymark_model::World;

use super::*;

/// Flows, some of which a flowtable forwards.
struct Fake {
    flows: Vec<(Flow, Offload)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Offload {
    No,
    Yes,
}

impl Table for Fake {
    fn list(
        &mut self,
        filter: &Filter,
        keep: &dyn Fn(&Flow) -> bool,
    ) -> Result<Vec<Flow>, QueryError> {
        let all = self.flows.iter().map(|(flow, _)| flow);
        let wanted = all.filter(|flow| filter.matches(flow) && keep(flow));
        Ok(wanted.cloned().collect())
    }

    fn remove(&mut self, flows: &[Flow]) -> Result<Removed, TransactError> {
        let before = self.flows.len();
        let is_meant = |flow: &Flow| flows.contains(flow);
        self.flows
            .retain(|(flow, offload)| !is_meant(flow) || *offload == Offload::Yes);
        let removed = before - self.flows.len();
        Ok(Removed {
            removed,
            gone: 0,
            offloaded: flows.len() - removed,
        })
    }
}

fn flow(client_port: u16) -> Flow {
    let client = ([10, 244, 1, 9].into(), client_port);
    Flow {
        original: Tuple::new(17, client, ([10, 96, 0, 10].into(), 53)),
        reply: Tuple::new(17, ([10, 244, 1, 5].into(), 53), client),
        zone: 0,
        status: Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED | Status::DST_NAT,
        mark: 0,
        timeout: Some(120),
        id: None,
        tcp: None,
    }
}

/// A UDP Service lost its endpoint.
fn verdicts() -> Verdicts {
    let text = "service dns ClusterIP 53/UDP cluster=10.96.0.10\n\
                endpoint 10.244.1.5 ready on node-1\n\
                step then\nremove endpoint 10.244.1.5 of dns\n";
    let case = Case::parse("inline", text).expect("a case");
    let mut world = World::default();
    world.apply(case.steps[0].changes.iter().cloned());
    let changes = case.steps[1].changes.clone();
    let suspects = flows::suspects(&world, &changes);
    world.apply(changes);
    suspects.judge(&world)
}

#[test]
fn a_flow_that_a_flowtable_has_fails_no_look_and_is_counted_apart() {
    let flows = [
        (4000, Offload::No),
        (4001, Offload::Yes),
        (4002, Offload::No),
    ];
    let mut table = Fake {
        flows: flows.map(|(port, offload)| (flow(port), offload)).to_vec(),
    };
    let mut told = Vec::new();
    let mut look = |table: &mut Fake| {
        forget(table, &verdicts(), Which::Datagrams, &mut |walk: Walk| {
            told.push(walk.stale);
        })
        .expect("no failure")
    };
    let first = look(&mut table);
    assert_eq!((first.flows, first.offloaded), ([2, 0], 1));
    // The flowtable lets it go.
    table.flows[0].1 = Offload::No;
    let second = look(&mut table);
    assert_eq!((second.flows, second.offloaded), ([1, 0], 0));
    assert_eq!((told, table.flows.len()), (vec![2, 1], 0));
}

#[test]
fn who_took_leave_is_told_by_the_flags_of_both_sides() {
    let nothing = TcpFlags::WINDOW_SCALE;
    let first = TcpFlags::CLOSE_INIT;
    let unheard = first | TcpFlags::DATA_UNACKNOWLEDGED;
    let (fin_wait, close_wait, last_ack) =
        (TcpState::FIN_WAIT, TcpState::CLOSE_WAIT, TcpState::LAST_ACK);
    for (state, original, reply, expected) in [
        (TcpState::ESTABLISHED, nothing, nothing, None),
        // Of a connection that was picked up.
        (close_wait, nothing, nothing, None),
        (close_wait, first, nothing, Some(Leave::ClientHeard)),
        // The client acknowledged what came before the endpoint heard its last.
        (close_wait, unheard, nothing, Some(Leave::ClientHeard)),
        (fin_wait, unheard, nothing, Some(Leave::ClientUnheard)),
        (last_ack, unheard, nothing, Some(Leave::ClientUnheard)),
        // The endpoint has answered to its end; the client has not acknowledged that.
        (
            last_ack,
            first,
            TcpFlags::DATA_UNACKNOWLEDGED,
            Some(Leave::ClientHeard),
        ),
        (close_wait, nothing, first, Some(Leave::EndpointHeard)),
        (
            last_ack,
            TcpFlags::DATA_UNACKNOWLEDGED,
            first,
            Some(Leave::EndpointHeard),
        ),
        (fin_wait, nothing, unheard, Some(Leave::EndpointUnheard)),
    ] {
        let tcp = Tcp {
            state,
            original,
            reply,
        };
        let flow = Flow {
            tcp: Some(tcp),
            ..flow(4000)
        };
        assert_eq!(leave(&flow), expected, "{tcp:?}");
    }
}
