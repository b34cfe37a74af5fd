//! Documents that no driver would make, but MongoDB stores.

/// Elements of a document, made by hand.
fn element(kind: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[kind], name, &[0], value].concat()
}

fn document(elements: &[Vec<u8>]) -> Vec<u8> {
    let elements = elements.concat();
    let length = i32::try_from(elements.len() + 5).unwrap();
    [&length.to_le_bytes(), &elements[..], &[0]].concat()
}

fn string(text: &[u8]) -> Vec<u8> {
    let length = i32::try_from(text.len() + 1).unwrap();
    [&length.to_le_bytes(), text, &[0]].concat()
}

fn binary(subtype: u8, bytes: &[u8]) -> Vec<u8> {
    let length = i32::try_from(bytes.len()).unwrap();
    [&length.to_le_bytes()[..], &[subtype], bytes].concat()
}

fn id(number: i32) -> Vec<u8> {
    element(0x10, b"_id", &number.to_le_bytes())
}

/// Each is another oddity.
pub(super) fn documents() -> Vec<Vec<u8>> {
    let one = 1_i32.to_le_bytes();
    vec![
        // The deprecated types: undefined, symbol, DBPointer, code with a scope.
        document(&[
            id(1),
            element(0x06, b"undefined", &[]),
            element(0x0E, b"symbol", &string(b"s")),
            element(0x0C, b"pointer", &[&string(b"a.b")[..], &[7; 12]].concat()),
            element(0x0F, b"code", &code_with_scope()),
            element(0xFF, b"least", &[]),
            element(0x7F, b"most", &[]),
        ]),
        // A name twice, an empty name, a name with a dot and one with a dollar.
        document(&[
            id(2),
            element(0x10, b"twice", &one),
            element(0x02, b"twice", &string(b"again")),
            element(0x10, b"", &one),
            element(0x10, b"a.b", &one),
            element(0x10, b"c$", &one),
        ]),
        // Text that is not UTF-8, and text with a zero in it.
        document(&[
            id(3),
            element(0x02, b"text", &string(b"\xC3\x28 \xFF")),
            element(0x02, b"zero", &string(b"a\0b")),
        ]),
        // An array whose names are not 0, 1, 2.
        document(&[
            id(4),
            element(
                0x04,
                b"list",
                &document(&[element(0x10, b"7", &one), element(0x10, b"x", &one)]),
            ),
        ]),
        // Numbers that have more than one form.
        document(&[
            id(5),
            element(0x01, b"nan", &0x7FF8_0000_0000_1234_u64.to_le_bytes()),
            element(0x01, b"zero", &(-0.0_f64).to_le_bytes()),
            element(0x13, b"decimal", &[0xFF; 16]),
            element(0x08, b"bool", &[1]),
        ]),
        // The subtype of sealed values without what else they begin with, and that in another subtype or in a text.
        document(&[
            id(6),
            element(0x05, b"other", &binary(0x8F, b"not sealed")),
            element(0x05, b"nothing", &binary(0x8F, b"")),
            element(0x05, b"old", &binary(2, &binary_old(b"\x8F\xF5\xEA\x1D"))),
            element(0x02, b"text", &string(b"\x8F\xF5\xEA\x1D and so on")),
        ]),
    ]
}

/// What looks like a sealed value, and may pass only where nothing is sealed.
pub(super) fn looks_sealed() -> Vec<u8> {
    let bytes = b"\xF5\xEA\x1D\x01 and something that no key opens, long enough to be one";
    document(&[id(7), element(0x05, b"sealed", &binary(0x8F, bytes))])
}

/// The command that inserts one document.
pub(super) fn insert(collection: &str, one: &[u8], database: &str) -> Vec<u8> {
    document(&[
        element(0x02, b"insert", &string(collection.as_bytes())),
        element(0x04, b"documents", &document(&[element(0x03, b"0", one)])),
        element(0x02, b"$db", &string(database.as_bytes())),
    ])
}

fn code_with_scope() -> Vec<u8> {
    let content = [string(b"x"), document(&[])].concat();
    let length = i32::try_from(content.len() + 4).unwrap();
    [&length.to_le_bytes(), &content[..]].concat()
}

/// The content of subtype 2, which repeats its length.
fn binary_old(bytes: &[u8]) -> Vec<u8> {
    let length = i32::try_from(bytes.len()).unwrap();
    [&length.to_le_bytes(), bytes].concat()
}
