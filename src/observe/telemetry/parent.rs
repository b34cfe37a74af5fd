//! The trace that a command belongs to, as its client says in its `comment`.

use crate::observe::command::Parent;

/// A longer comment is a comment on something else.
const LONGEST_COMMENT: usize = 4096;

/// As long as a `traceparent` of version 00.
const LENGTH: usize = 55;

/// What a comment says: a `traceparent` alone, or as one of several `key='value'` with commas
/// between them.
pub(super) fn of_comment(comment: &str) -> Option<Parent> {
    if comment.len() > LONGEST_COMMENT {
        return None;
    }
    traceparent(comment.trim()).or_else(|| {
        comment.split(',').find_map(|part| {
            let value = part.trim().strip_prefix("traceparent=")?;
            let quoted = (value.strip_prefix('\'')).and_then(|rest| rest.strip_suffix('\''));
            traceparent(quoted.unwrap_or(value))
        })
    })
}

/// W3C Trace Context, section 3.2: of a later version, what version 00 has is read.
fn traceparent(text: &str) -> Option<Parent> {
    let (text, rest) = text.split_at_checked(LENGTH)?;
    let mut parts = text.split('-');
    let version = parts.next()?;
    let [version_number] = hexadecimal::<1>(version)?;
    let may_be_longer = match version_number {
        0 => false,
        0xff => return None,
        _ => true,
    };
    if !(rest.is_empty() || may_be_longer && rest.starts_with('-')) {
        return None;
    }
    let trace = hexadecimal::<16>(parts.next()?)?;
    let span = hexadecimal::<8>(parts.next()?)?;
    let [flags] = hexadecimal::<1>(parts.next()?)?;
    let is_whole = parts.next().is_none() && trace != [0; 16] && span != [0; 8];
    is_whole.then_some(Parent {
        trace,
        span,
        sampled: flags & 1 == 1,
    })
}

/// Digits in lower case only, as the specification wants it.
fn hexadecimal<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    let mut pairs = text.as_bytes().chunks(2);
    for byte in &mut bytes {
        let [high, low] = pairs.next()? else {
            return None;
        };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    pairs.next().is_none().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn example(sampled: bool) -> Option<Parent> {
        Some(Parent {
            trace: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes(),
            span: 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes(),
            sampled,
        })
    }

    #[test]
    fn the_example_of_the_specification_is_understood() {
        assert_eq!(of_comment(EXAMPLE), example(true));
        assert_eq!(of_comment(&EXAMPLE.replace("-01", "-00")), example(false));
        // Other flags say nothing of sampling.
        assert_eq!(of_comment(&EXAMPLE.replace("-01", "-fe")), example(false));
        assert_eq!(of_comment(&EXAMPLE.replace("-01", "-03")), example(true));
    }

    #[test]
    fn it_may_stand_among_others() {
        for comment in [
            format!(" {EXAMPLE}\n"),
            format!("traceparent='{EXAMPLE}'"),
            format!("traceparent={EXAMPLE}"),
            format!("dddbs='shop',dde='prod', traceparent='{EXAMPLE}',ddps='web'"),
        ] {
            assert_eq!(of_comment(&comment), example(true), "{comment}");
        }
    }

    #[test]
    fn a_later_version_may_say_more() {
        let later = EXAMPLE.replacen("00-", "01-", 1);
        assert_eq!(of_comment(&later), example(true));
        assert_eq!(of_comment(&format!("{later}-what-ever")), example(true));
        assert_eq!(of_comment(&format!("{later}what")), None);
    }

    #[test]
    fn anything_else_is_none() {
        let zero_trace = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
        let zero_span = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", "0".repeat(16));
        for wrong in [
            "",
            "a comment",
            "traceparent=",
            "traceparent='",
            &zero_trace,
            &zero_span,
            &EXAMPLE.to_uppercase(),
            &EXAMPLE[..54],
            &EXAMPLE.replace('-', "_"),
            &EXAMPLE.replacen("00-", "ff-", 1),
            &format!("{EXAMPLE}-more"),
            &format!("{EXAMPLE}0"),
            &EXAMPLE.replacen("4bf92f", "4bf-2f", 1),
            &EXAMPLE.replacen("4bf92f", "4bé2f", 1),
            &format!("traceparent=\"{EXAMPLE}\""),
            &format!("x{EXAMPLE}"),
            &format!("{}{EXAMPLE}", "a=b,".repeat(2000)),
        ] {
            assert_eq!(of_comment(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn no_text_makes_it_panic() {
        proptest::proptest!(|(text in "[0-9a-f\\-é]{50,60}", other in ".*")| {
            let _ = (of_comment(&text), of_comment(&other));
        });
    }
}
