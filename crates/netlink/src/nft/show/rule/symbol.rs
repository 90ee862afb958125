//! Registers that hold text instead of bytes.

use crate::nft::data::{Data, Field, Type};
use crate::nft::expr::{Cmp, CmpOp, Reg};
use crate::nft::show::value;

/// What a register holds.
#[derive(Clone)]
pub(super) struct Symbol {
    text: String,
    field: Field,
    /// Which field of how many of a map's result.
    part: Option<(usize, usize)>,
    constant: Option<Data>,
    mask: Option<Data>,
    is_status: bool,
}

impl Symbol {
    pub(super) fn new(text: impl Into<String>, field: Field) -> Self {
        Self {
            text: text.into(),
            field,
            part: None,
            constant: None,
            mask: None,
            is_status: false,
        }
    }

    /// A constant takes the type of where it is used.
    pub(super) fn constant(data: Data) -> Self {
        let field = Field::Integer(u8::try_from(data.len()).unwrap_or(u8::MAX));
        Self {
            constant: Some(data),
            ..Self::new("", field)
        }
    }

    /// Conntrack status bits, which have words but no type number of their own here.
    pub(super) fn of_status(self) -> Self {
        Self {
            is_status: true,
            ..self
        }
    }

    fn print(&self, field: Field) -> String {
        match (&self.constant, self.part) {
            (Some(data), _) => value::field(field, data.get(..field.len()).unwrap_or(data)),
            (None, Some((index, count))) if count > 1 => format!("({})[{index}]", self.text),
            (None, _) => self.text.clone(),
        }
    }
}

/// The sixteen registers; a longer value stands in its first.
#[derive(Default)]
pub(super) struct Registers([Option<Symbol>; 16]);

impl Registers {
    pub(super) fn set(&mut self, reg: Reg, symbol: Symbol) {
        self.0[reg.index()] = Some(symbol);
    }

    /// The fields of a map's result, one after the other.
    pub(super) fn set_fields(&mut self, reg: Reg, text: &str, data: &Type) {
        let count = data.fields().len();
        let mut at = Some(reg);
        for (index, field) in data.fields().iter().enumerate() {
            let Some(reg) = at else { return };
            let symbol = Symbol {
                part: Some((index, count)),
                ..Symbol::new(text, *field)
            };
            self.set(reg, symbol);
            at = words(field.len()).and_then(|words| reg.plus(words));
        }
    }

    pub(super) fn copy(&mut self, from: Reg, to: Reg) {
        self.0[to.index()] = self.0[from.index()].clone();
    }

    pub(super) fn field(&self, reg: Reg) -> Option<Field> {
        self.0[reg.index()].as_ref().map(|symbol| symbol.field)
    }

    /// What one register holds.
    pub(super) fn text(&self, reg: Reg) -> String {
        match &self.0[reg.index()] {
            Some(symbol) => symbol.print(symbol.field),
            None => format!("reg {}", reg.index()),
        }
    }

    /// A value of a type, from this register on.
    pub(super) fn read(&self, reg: Reg, kind: &Type) -> String {
        if let Some(whole) = self.whole(reg, kind.fields().len()) {
            return whole;
        }
        let mut at = Some(reg);
        let mut parts = Vec::new();
        for field in kind.fields() {
            let Some(reg) = at else { break };
            parts.push(match &self.0[reg.index()] {
                Some(symbol) => symbol.print(*field),
                None => format!("reg {}", reg.index()),
            });
            at = words(field.len()).and_then(|words| reg.plus(words));
        }
        parts.join(" . ")
    }

    /// A value of so many bytes, from this register on.
    pub(super) fn read_len(&self, reg: Reg, len: usize) -> String {
        let mut fields = Vec::new();
        let (mut at, mut left) = (Some(reg), len);
        while let (Some(reg), true) = (at, left > 0) {
            let field = self.field(reg).unwrap_or(Field::Integer(4));
            let padded = field.len().next_multiple_of(4).max(4);
            fields.push(field);
            left = left.saturating_sub(padded);
            at = words(padded).and_then(|words| reg.plus(words));
        }
        self.read(reg, &Type::concat(&fields))
    }

    /// All fields of one map's result are the result.
    fn whole(&self, reg: Reg, wanted: usize) -> Option<String> {
        let first = self.0[reg.index()].as_ref()?;
        let (index, count) = first.part?;
        let mut at = words(first.field.len()).and_then(|words| reg.plus(words));
        for expected in 1..count {
            let symbol = self.0[at?.index()].as_ref()?;
            if symbol.part != Some((expected, count)) || symbol.text != first.text {
                return None;
            }
            at = words(symbol.field.len()).and_then(|words| at?.plus(words));
        }
        (index == 0 && count == wanted).then(|| first.text.clone())
    }

    pub(super) fn mask(&mut self, from: Reg, to: Reg, mask: &Data, xor: &Data) {
        let Some(symbol) = self.0[from.index()].clone() else {
            return;
        };
        let plain = xor.iter().all(|byte| *byte == 0);
        let masked = if plain {
            Symbol {
                mask: Some(mask.clone()),
                ..symbol
            }
        } else {
            let mask = value::field(symbol.field, mask);
            let xor = value::field(symbol.field, xor);
            Symbol::new(
                format!("{} & {mask} ^ {xor}", symbol.print(symbol.field)),
                symbol.field,
            )
        };
        self.set(to, masked);
    }

    /// A comparison as `nft` prints it: bits by their words, prefixes as such, `==` left out.
    pub(super) fn compare(&self, cmp: &Cmp) -> String {
        let op = if cmp.op == CmpOp::Eq {
            String::new()
        } else {
            format!("{} ", cmp.op)
        };
        let Some(symbol) = &self.0[cmp.sreg.index()] else {
            return format!("{} {op}{}", self.text(cmp.sreg), value::hex(&cmp.data));
        };
        let left = symbol.print(symbol.field);
        let constant = value::field(cut(symbol.field, &cmp.data), &cmp.data);
        let Some(mask) = &symbol.mask else {
            return format!("{left} {op}{constant}");
        };
        let none = cmp.data.iter().all(|byte| *byte == 0);
        if let (Some(names), Some(bits), CmpOp::Neq, true) =
            (names(symbol), mask.host_word(0), cmp.op, none)
        {
            return format!("{left} {}", value::flags(bits, names));
        }
        match (symbol.field, value::mask_len(mask)) {
            (Field::Ipv4Addr | Field::Ipv6Addr, Some(len)) => {
                format!("{left} {op}{constant}/{len}")
            }
            _ => format!(
                "{left} & {} {} {constant}",
                value::field(symbol.field, mask),
                cmp.op
            ),
        }
    }
}

/// The words of a symbol's bits.
fn names(symbol: &Symbol) -> Option<&'static [(u32, &'static str)]> {
    match symbol.field {
        _ if symbol.is_status => Some(value::CT_STATUS),
        Field::CtState => Some(value::CT_STATE),
        _ => None,
    }
}

/// A constant shorter than its type is a number.
fn cut(field: Field, data: &[u8]) -> Field {
    if field.len() == data.len() {
        return field;
    }
    Field::Integer(u8::try_from(data.len()).unwrap_or(u8::MAX))
}

fn words(len: usize) -> Option<u32> {
    u32::try_from(len.div_ceil(4)).ok()
}
