//! JSON values as they come: absent, readable, or something else.
//!
//! An API server promises the types of its schema; a record is made even if one value breaks the
//! promise, and the value is named in a [`super::Reason`]. Text borrows from the line.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A scalar of a schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Read<T> {
    /// Not there, or null.
    #[default]
    Absent,
    /// Of the schema's type.
    Value(T),
    /// Of another type.
    Unreadable,
}

pub(super) type Text<'a> = Read<Cow<'a, str>>;
pub(super) type Number = Read<i64>;
pub(super) type Flag = Read<bool>;

impl Text<'_> {
    /// The text; empty if there is none.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Value(text) => text,
            Self::Absent | Self::Unreadable => "",
        }
    }
}

impl<T> Read<T> {
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// Which JSON scalars a type is read from.
trait Scalar<'de>: Sized {
    fn from_text(_text: Cow<'de, str>) -> Option<Self> {
        None
    }
    fn from_integer(_number: i64) -> Option<Self> {
        None
    }
    fn from_flag(_flag: bool) -> Option<Self> {
        None
    }
}

impl<'de: 'a, 'a> Scalar<'de> for Cow<'a, str> {
    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        Some(text)
    }
}

impl Scalar<'_> for i64 {
    fn from_integer(number: i64) -> Option<Self> {
        Some(number)
    }
}

impl Scalar<'_> for bool {
    fn from_flag(flag: bool) -> Option<Self> {
        Some(flag)
    }
}

impl<'de, T: Scalar<'de>> Deserialize<'de> for Read<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ReadVisitor(PhantomData))
    }
}

struct ReadVisitor<T>(PhantomData<T>);

fn read<T>(value: Option<T>) -> Read<T> {
    value.map_or(Read::Unreadable, Read::Value)
}

impl<'de, T: Scalar<'de>> Visitor<'de> for ReadVisitor<T> {
    type Value = Read<T>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Read<T>, E> {
        Ok(read(T::from_text(Cow::Borrowed(text))))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Read<T>, E> {
        Ok(read(T::from_text(Cow::Owned(text.to_owned()))))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Read<T>, E> {
        Ok(read(T::from_integer(number)))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Read<T>, E> {
        Ok(read(i64::try_from(number).ok().and_then(T::from_integer)))
    }

    fn visit_f64<E: Error>(self, _number: f64) -> Result<Read<T>, E> {
        Ok(Read::Unreadable)
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Read<T>, E> {
        Ok(read(T::from_flag(flag)))
    }

    fn visit_unit<E: Error>(self) -> Result<Read<T>, E> {
        Ok(Read::Absent)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Read<T>, A::Error> {
        IgnoredAny.visit_seq(seq).map(|_| Read::Unreadable)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Read<T>, A::Error> {
        IgnoredAny.visit_map(map).map(|_| Read::Unreadable)
    }
}

/// A nested object or list: absent and null are its default.
#[derive(Debug, Default)]
pub(super) struct Part<T> {
    pub(super) value: T,
    /// Whether something of another type stood there.
    pub(super) unreadable: bool,
}

/// A list of a schema.
pub(super) type List<T> = Part<Vec<T>>;

impl<T> std::ops::Deref for Part<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<'de, T: Deserialize<'de> + Default + Shape> Deserialize<'de> for Part<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(PartVisitor(PhantomData))
    }
}

/// Whether a type is read from a JSON object or from a JSON list.
pub(super) trait Shape {
    const IS_LIST: bool = false;
}

impl<T> Shape for Vec<T> {
    const IS_LIST: bool = true;
}

struct PartVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Default + Shape> Visitor<'de> for PartVisitor<T> {
    type Value = Part<T>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Part<T>, A::Error> {
        if T::IS_LIST {
            return IgnoredAny.visit_map(map).map(|_| unreadable());
        }
        let value = T::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Part {
            value,
            unreadable: false,
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Part<T>, A::Error> {
        if !T::IS_LIST {
            return IgnoredAny.visit_seq(seq).map(|_| unreadable());
        }
        let value = T::deserialize(SeqAccessDeserializer::new(seq))?;
        Ok(Part {
            value,
            unreadable: false,
        })
    }

    fn visit_unit<E: Error>(self) -> Result<Part<T>, E> {
        Ok(Part::default())
    }

    fn visit_str<E: Error>(self, _text: &str) -> Result<Part<T>, E> {
        Ok(unreadable())
    }

    fn visit_i64<E: Error>(self, _number: i64) -> Result<Part<T>, E> {
        Ok(unreadable())
    }

    fn visit_u64<E: Error>(self, _number: u64) -> Result<Part<T>, E> {
        Ok(unreadable())
    }

    fn visit_f64<E: Error>(self, _number: f64) -> Result<Part<T>, E> {
        Ok(unreadable())
    }

    fn visit_bool<E: Error>(self, _flag: bool) -> Result<Part<T>, E> {
        Ok(unreadable())
    }
}

fn unreadable<T: Default>() -> Part<T> {
    Part {
        value: T::default(),
        unreadable: true,
    }
}
