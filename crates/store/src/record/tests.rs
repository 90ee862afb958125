use proptest::prelude::*;

use super::*;

fn part() -> impl Strategy<Value = String> {
    "[a-z0-9./-]{0,20}"
}

proptest! {
    #[test]
    fn a_key_comes_back_and_sorts_as_its_bytes(a in [part(), part(), part()], b in [part(), part(), part()]) {
        let [a, b] = [a, b].map(|[kind, namespace, name]| Key::new(kind, namespace, name));
        let (left, right) = (encode_key(&a), encode_key(&b));
        prop_assert_eq!(decode_key(&left, None).unwrap(), a.clone());
        prop_assert_eq!(decode_key(&left, Some(&b)).unwrap(), a.clone());
        prop_assert_eq!(left.cmp(&right), a.cmp(&b));
    }

    #[test]
    fn rows_come_back(created: u64, revision: u64, key: Vec<u8>, before: Vec<u8>, value: Vec<u8>) {
        let row = ObjectRow { created, revision, value: &value };
        let bytes = row.encode();
        prop_assert_eq!(ObjectRow::decode(&bytes).unwrap(), row);
        for (what, before, last) in [
            (What::Added, None, None),
            (What::Modified, Some(before.as_slice()), None),
            (What::Deleted, Some(before.as_slice()), Some(value.as_slice())),
        ] {
            let row = LogRow { what, key: &key, before, last };
            let bytes = row.encode();
            prop_assert_eq!(LogRow::decode(&bytes).unwrap(), row);
        }
    }

    #[test]
    fn any_bytes_are_a_row_or_an_error(bytes: Vec<u8>) {
        let _ = LogRow::decode(&bytes);
        let _ = ObjectRow::decode(&bytes);
        let _ = decode_key(&bytes, None);
    }
}
