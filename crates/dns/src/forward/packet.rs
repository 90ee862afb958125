//! Where the parts of a message are, with no look into them: enough to age, cut and pass it on.

use crate::wire::HEADER;

/// The places of a message's parts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(super) questions_end: usize,
    pub(super) records: Vec<At>,
}

/// The place of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) section: Section,
    pub(super) kind: u16,
    start: usize,
    ttl: usize,
    end: usize,
}

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Answer,
    Authority,
    Additional,
}

/// Takes a message apart; `None` if it is not one.
pub(super) fn layout(bytes: &[u8]) -> Option<Layout> {
    let mut at = HEADER;
    for _ in 0..number(bytes, 4)? {
        at = name_end(bytes, at)?.checked_add(4)?;
    }
    let questions_end = at;
    let mut records = Vec::new();
    let sections = [
        (Section::Answer, 6),
        (Section::Authority, 8),
        (Section::Additional, 10),
    ];
    for (section, count) in sections {
        for _ in 0..number(bytes, count)? {
            let fixed = name_end(bytes, at)?;
            let end = fixed + 10 + usize::from(number(bytes, fixed + 8)?);
            bytes.get(at..end)?;
            records.push(At {
                section,
                kind: number(bytes, fixed)?,
                start: at,
                ttl: fixed + 4,
                end,
            });
            at = end;
        }
    }
    bytes.get(..questions_end)?;
    Some(Layout {
        questions_end,
        records,
    })
}

/// How long a message may be kept, seconds: its smallest TTL; for a negative answer the SOA
/// record's (RFC 2308 section 5). `None` if it says nothing about that.
pub(super) fn lifetime(bytes: &[u8], layout: &Layout) -> Option<u32> {
    let is_negative = !layout
        .records
        .iter()
        .any(|record| record.section == Section::Answer);
    let smallest = layout
        .records
        .iter()
        .filter(|record| record.kind != OPT)
        .map(|record| ttl(bytes, record))
        .min();
    if !is_negative {
        return smallest;
    }
    let soa = layout
        .records
        .iter()
        .find(|record| record.section == Section::Authority && record.kind == SOA)?;
    let minimum = bytes[..soa.end]
        .last_chunk::<4>()
        .map(|bytes| u32::from_be_bytes(*bytes))?;
    smallest.map(|ttl| ttl.min(minimum))
}

/// Takes seconds off every TTL.
pub(super) fn age(bytes: &mut [u8], layout: &Layout, seconds: u32) {
    for record in layout.records.iter().filter(|record| record.kind != OPT) {
        let left = ttl(bytes, record).saturating_sub(seconds);
        bytes[record.ttl..record.ttl + 4].copy_from_slice(&left.to_be_bytes());
    }
}

/// Cuts a message to a limit: whole answers from the front and the OPT record stay, with TC set.
/// Pointers of names only point backwards (RFC 1035 section 4.1.4), so a prefix stays readable.
pub(crate) fn cut(bytes: &[u8], limit: usize) -> Option<Vec<u8>> {
    let layout = layout(bytes)?;
    let opt = layout.records.iter().find(|record| record.kind == OPT);
    let opt = opt.map_or(&[][..], |record| &bytes[record.start..record.end]);
    let room = limit.checked_sub(opt.len())?;
    let answers = layout
        .records
        .iter()
        .filter(|record| record.section == Section::Answer);
    let kept: Vec<&At> = answers.take_while(|record| record.end <= room).collect();
    let end = kept
        .last()
        .map_or(layout.questions_end, |record| record.end);
    let mut short = bytes.get(..end.min(bytes.len()))?.to_vec();
    short.extend_from_slice(opt);
    short[2] |= TRUNCATED;
    short[6..8].copy_from_slice(&u16::try_from(kept.len()).ok()?.to_be_bytes());
    short[8..10].fill(0);
    short[10..12].copy_from_slice(&u16::from(!opt.is_empty()).to_be_bytes());
    Some(short)
}

fn ttl(bytes: &[u8], record: &At) -> u32 {
    let ttl = bytes[record.ttl..]
        .first_chunk::<4>()
        .expect("the layout has the whole record");
    u32::from_be_bytes(*ttl)
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk::<2>()
        .map(|bytes| u16::from_be_bytes(*bytes))
}

/// Where the name that begins here ends.
fn name_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length @ 1..64 => at += 1 + usize::from(length),
            0xc0.. => return Some(at + 2),
            64..0xc0 => return None,
        }
    }
}

pub(super) const RESPONSE: u8 = 0x80;
pub(super) const TRUNCATED: u8 = 0x02;
const OPT: u16 = 41;
const SOA: u16 = 6;
