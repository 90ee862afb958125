use proptest::option::of;
use proptest::prelude::*;

use super::*;

fn tuple() -> impl Strategy<Value = Tuple> {
    let v4 = any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b)));
    let v6 = any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b)));
    let ports = prop_oneof![
        any::<(u16, u16)>().prop_map(|(src, dst)| Ports::Pair { src, dst }),
        any::<(u16, u8, u8)>().prop_map(|(id, kind, code)| Ports::Icmp { id, kind, code }),
        Just(Ports::None),
    ];
    (prop_oneof![v4, v6], any::<u8>(), ports).prop_map(|((src, dst), protocol, ports)| Tuple {
        src,
        dst,
        protocol,
        ports,
    })
}

fn tcp() -> impl Strategy<Value = Tcp> {
    let flags = |bits: u8| TcpFlags::from_bits(u32::from(bits));
    any::<(u8, u8, u8)>().prop_map(move |(state, original, reply)| Tcp {
        state: TcpState(state),
        original: flags(original),
        reply: flags(reply),
    })
}

fn flow() -> impl Strategy<Value = Flow> {
    let rest = (
        any::<u16>(),
        any::<u16>(),
        any::<u32>(),
        of(any::<u32>()),
        (of(any::<u32>()), of(tcp())),
    );
    (tuple(), tuple(), rest).prop_map(
        |(original, reply, (zone, status, mark, timeout, (id, tcp)))| Flow {
            original,
            reply,
            zone,
            status: Status::from_bits(u32::from(status)),
            mark,
            timeout,
            id,
            tcp,
        },
    )
}

proptest! {
    #[test]
    fn a_connection_decodes_to_itself(flow in flow()) {
        let mut out = Writer::new();
        Request::Insert(flow.clone()).encode(&mut out, 3);
        let frame = frame::walk(out.bytes()).next().expect("one message").expect("whole");
        prop_assert_eq!(Flow::decode(&frame), Ok(flow));
    }

    #[test]
    fn an_exact_filter_matches_its_connection_and_no_other_port(flow in flow()) {
        let Ports::Pair { src, dst } = flow.original.ports else { return Ok(()) };
        let original = TupleFilter {
            src: Some(flow.original.src),
            dst: Some(flow.original.dst),
            protocol: Some(flow.original.protocol),
            src_port: Some(src),
            dst_port: Some(dst),
        };
        let filter = Filter { original, zone: Some(flow.zone), ..Filter::default() };
        prop_assert!(filter.matches(&flow));
        let original = TupleFilter { dst_port: Some(dst.wrapping_add(1)), ..original };
        let other = Filter { original, ..filter };
        prop_assert!(!other.matches(&flow));
    }
}

#[test]
fn a_deletion_always_names_a_tuple() {
    let to = (IpAddr::from([10, 96, 0, 10]), 53);
    let original = Tuple::new(17, (IpAddr::from([10, 0, 0, 1]), 5_000), to);
    let mut out = Writer::new();
    Request::Delete {
        original,
        zone: 0,
        id: None,
    }
    .encode(&mut out, 1);
    let frame = frame::walk(out.bytes()).next().unwrap().unwrap();
    let (family, attrs) = frame.netfilter().unwrap();
    assert_eq!((family, frame.header.kind), (AF_INET, 0x0102));
    let fields = Fields::parse("test", attrs).unwrap();
    assert_eq!(
        take_tuple(fields.bytes(CTA_TUPLE_ORIG).unwrap()),
        Ok(original)
    );
}

#[test]
fn a_reversed_tuple_has_everything_the_other_way_round() {
    let (a, b) = (
        (IpAddr::from([1, 1, 1, 1]), 1),
        (IpAddr::from([2, 2, 2, 2]), 2),
    );
    assert_eq!(Tuple::new(6, a, b).reversed(), Tuple::new(6, b, a));
}

#[test]
fn a_zone_of_one_direction_is_the_zone_of_the_connection() {
    let (a, b) = (
        (IpAddr::from([1, 1, 1, 1]), 1),
        (IpAddr::from([2, 2, 2, 2]), 2),
    );
    let tuple = Tuple::new(17, a, b);
    for (zoned, plain) in [
        (CTA_TUPLE_ORIG, CTA_TUPLE_REPLY),
        (CTA_TUPLE_REPLY, CTA_TUPLE_ORIG),
    ] {
        let mut out = Writer::new();
        let header = Header {
            kind: frame::SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW,
            flags: 0,
            seq: 1,
            port: 0,
        };
        let start = frame::start(&mut out, header, AF_INET, 0);
        put_tuple(&mut out, plain, &tuple);
        out.nest(zoned, |out| {
            out.nest(CTA_TUPLE_IP, |out| {
                put_addr(out, CTA_IP_V4_SRC, tuple.src);
                put_addr(out, CTA_IP_V4_DST, tuple.dst);
            });
            out.nest(CTA_TUPLE_PROTO, |out| {
                out.u8(CTA_PROTO_NUM, tuple.protocol);
                put_ports(out, &tuple);
            });
            out.be16(CTA_TUPLE_ZONE, 7);
        });
        frame::finish(&mut out, start);
        let frame = frame::walk(out.bytes()).next().unwrap().unwrap();
        let flow = Flow::decode(&frame).expect("a connection");
        assert_eq!((flow.zone, flow.original, flow.reply), (7, tuple, tuple));
    }
}
