//! User data: bytes that the kernel keeps and only `nft` reads, as type (1 byte), length (1 byte), value
//! (libnftnl `include/libnftnl/udata.h`).

use crate::attr::text;
use crate::nft::data::Type;
use crate::nft::object::{Name, Set, SetKind};

/// A comment alone, as tables, chains, rules, elements and objects have it (`NFTNL_UDATA_*_COMMENT` is 0).
pub(super) fn comment(comment: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_comment(&mut out, COMMENT, comment);
    out
}

/// What `nft` needs to print a set: byte orders of key and data, and the comment.
pub(super) fn of_set(set: &Set) -> Vec<u8> {
    let mut out = Vec::new();
    put(
        &mut out,
        SET_KEY_BYTE_ORDER,
        &byte_order(&set.key).to_ne_bytes(),
    );
    if let SetKind::Map(data) = &set.kind {
        put(
            &mut out,
            SET_DATA_BYTE_ORDER,
            &byte_order(data).to_ne_bytes(),
        );
    }
    if let Some(comment) = &set.comment {
        put_comment(&mut out, SET_COMMENT, comment);
    }
    out
}

/// The comment of anything but a set.
pub(super) fn find_comment(bytes: Option<&[u8]>) -> Option<Name> {
    find(bytes?, COMMENT).map(text)
}

/// The comment of a set.
pub(super) fn find_set_comment(bytes: Option<&[u8]>) -> Option<Name> {
    find(bytes?, SET_COMMENT).map(text)
}

fn put_comment(out: &mut Vec<u8>, kind: u8, comment: &str) {
    let mut end = comment.len().min(COMMENT_MAX);
    while !comment.is_char_boundary(end) {
        end -= 1;
    }
    let mut value = comment.as_bytes()[..end].to_vec();
    value.push(0);
    put(out, kind, &value);
}

fn put(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let len = u8::try_from(value.len()).expect("a comment is cut and the rest are words");
    out.extend_from_slice(&[kind, len]);
    out.extend_from_slice(value);
}

fn find(mut bytes: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        let [kind, len, rest @ ..] = bytes else {
            return None;
        };
        let (value, behind) = rest.split_at_checked(usize::from(*len))?;
        if *kind == wanted {
            return Some(value);
        }
        bytes = behind;
    }
}

/// `enum byteorder` of nft's `include/datatype.h`; a concatenation has none of its own.
fn byte_order(of: &Type) -> u32 {
    match of.fields() {
        [one] if one.is_host_order() => 1,
        [_] => 2,
        _ => 0,
    }
}

/// What `nft` accepts in a comment, without the zero byte (`NFTNL_UDATA_COMMENT_MAXLEN`).
const COMMENT_MAX: usize = 127;
const COMMENT: u8 = 0;
const SET_KEY_BYTE_ORDER: u8 = 0;
const SET_DATA_BYTE_ORDER: u8 = 1;
const SET_COMMENT: u8 = 7;
