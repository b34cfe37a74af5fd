pub fn table(_: &super::report::Report) -> String { String::new() }
