//! Typed kernel messages and their bytes.
