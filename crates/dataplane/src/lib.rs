//! Service meaning, translated to kernel objects.
