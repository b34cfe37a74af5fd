#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fieldseal::fuzzing::run("schema_file", bytes));
