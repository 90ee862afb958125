//! Two small macros for the numbers of the kernel's interface: closed enumerations and flag words.

/// An enumeration with numbers in a kernel header.
pub(crate) trait Code: Sized {
    /// The variant of a number, if there is one.
    fn find(code: u32) -> Option<Self>;
}

/// Declares an enumeration whose variants have a number in a kernel header and a word in `nft`.
macro_rules! codes {
    ($(#[$outer:meta])* $vis:vis enum $name:ident { $($(#[$inner:meta])* $variant:ident = $code:literal, $word:literal;)+ }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        $vis enum $name { $($(#[$inner])* $variant,)+ }

        impl $name {
            /// Every variant, in the order of the header.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The number in the kernel header.
            #[must_use]
            pub const fn code(self) -> u32 {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The variant of a number, if it is one of these.
            #[must_use]
            pub const fn from_code(code: u32) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }

            /// The word that `nft` prints.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl $crate::code::Code for $name {
            fn find(code: u32) -> Option<Self> {
                Self::from_code(code)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

/// Declares a word of flags: a newtype with named bits, `|`, and the words that `nft` prints.
macro_rules! flags {
    ($(#[$outer:meta])* $vis:vis struct $name:ident { $($(#[$inner:meta])* $flag:ident = $bit:literal, $word:literal;)+ }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        $vis struct $name(u32);

        impl $name {
            $($(#[$inner])* pub const $flag: Self = Self($bit);)+

            /// No flag.
            pub const NONE: Self = Self(0);

            /// The flags of a kernel word; unknown bits are kept.
            #[must_use]
            pub const fn from_bits(bits: u32) -> Self {
                Self(bits)
            }

            /// The kernel word.
            #[must_use]
            pub const fn bits(self) -> u32 {
                self.0
            }

            /// Whether every flag of `other` is set.
            #[must_use]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Both sets of flags; the `const` form of `|`.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// These flags but those of `other`.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            /// The words of the flags that are set, in header order, as `nft` prints them.
            pub fn words(self) -> impl Iterator<Item = &'static str> {
                [$((Self::$flag, $word),)+]
                    .into_iter()
                    .filter(move |(flag, word)| self.contains(*flag) && !word.is_empty())
                    .map(|(_, word)| word)
            }
        }

        impl std::ops::BitOr for $name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                self.with(other)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let words: Vec<_> = self.words().collect();
                write!(f, "{}({:#x} {})", stringify!($name), self.0, words.join(","))
            }
        }
    };
}
