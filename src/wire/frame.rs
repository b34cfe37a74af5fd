//! The frame: its header, its length, its checksum.

use crate::raw::Malformed;

/// The size of a header.
pub const HEADER: usize = 16;

/// MongoDB's own limit on a message, header included.
pub const MAX_MESSAGE: usize = 48_000_000;

/// The opcodes that are known; any other ends the connection.
pub mod opcode {
    /// A reply to `OP_QUERY`.
    pub const REPLY: i32 = 1;
    /// The legacy query, which lives on for `hello`.
    pub const QUERY: i32 = 2004;
    /// Any other message, compressed.
    pub const COMPRESSED: i32 = 2012;
    /// Everything else, both ways.
    pub const MSG: i32 = 2013;
}

/// The flag bits of `OP_MSG`.
pub mod flag {
    /// A CRC-32C of all that is before it ends the frame.
    pub const CHECKSUM_PRESENT: u32 = 1;
    /// In a request: no reply is wanted. In a reply: another one follows unasked.
    pub const MORE_TO_COME: u32 = 1 << 1;
    /// The client takes several replies to this request.
    pub const EXHAUST_ALLOWED: u32 = 1 << 16;
    /// A receiver must refuse bits of this range that it does not know.
    pub const REQUIRED: u32 = 0xFFFF;
}

/// What a peer sent that is not a message of the wire protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The length in a header is below a header's or above the limit.
    #[error("a message announces a length of {announced} bytes, outside 16 to {limit}")]
    Length {
        /// As the header has it.
        announced: i32,
        /// What is allowed.
        limit: usize,
    },
    /// An opcode that MongoDB no longer takes, or never did.
    #[error("opcode {0} is not supported; OP_MSG, OP_COMPRESSED, and OP_QUERY for hello are")]
    Opcode(i32),
    /// Required flag bits that are not known.
    #[error("an OP_MSG has unknown required flag bits ({0:#06x})")]
    Flags(u32),
    /// The checksum of a frame does not match.
    #[error("the checksum of an OP_MSG does not match")]
    Checksum,
    /// Sections, strings or documents do not fit the frame.
    #[error("malformed message: {0}")]
    Malformed(&'static str),
    /// What `OP_COMPRESSED` holds is not what it announces.
    #[error("malformed OP_COMPRESSED: {0}")]
    Compressed(&'static str),
}

impl From<Malformed> for WireError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed.0)
    }
}

/// The four numbers that begin every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The whole frame's length, this header included; checked against the limit.
    pub length: usize,
    /// The sender's number for this message.
    pub request_id: i32,
    /// In a reply, the number of what it answers.
    pub response_to: i32,
    /// What the message is.
    pub opcode: i32,
}

impl Header {
    /// The header that `bytes` begin with; none if more bytes must come first.
    ///
    /// The length is judged as soon as its four bytes are here, so that
    /// nothing is ever allocated or awaited for a length beyond `limit`.
    pub fn read(bytes: &[u8], limit: usize) -> Result<Option<Self>, WireError> {
        let Some(announced) = int32_at(bytes, 0) else {
            return Ok(None);
        };
        let length = usize::try_from(announced)
            .ok()
            .filter(|length| (HEADER..=limit).contains(length))
            .ok_or(WireError::Length { announced, limit })?;
        let fields = (int32_at(bytes, 4), int32_at(bytes, 8), int32_at(bytes, 12));
        let (Some(request_id), Some(response_to), Some(opcode)) = fields else {
            return Ok(None);
        };
        Ok(Some(Self {
            length,
            request_id,
            response_to,
            opcode,
        }))
    }

    /// The header of a frame that is here as a whole, and nothing after it.
    pub fn of(frame: &[u8]) -> Result<Self, WireError> {
        Self::read(frame, frame.len())?
            .filter(|header| header.length == frame.len())
            .ok_or(WireError::Malformed(
                "the header's length is not the frame's",
            ))
    }

    /// Appends a header; [`finish`] puts the length in once it is known.
    pub fn append(request_id: i32, response_to: i32, opcode: i32, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&request_id.to_le_bytes());
        out.extend_from_slice(&response_to.to_le_bytes());
        out.extend_from_slice(&opcode.to_le_bytes());
    }
}

/// Mends a frame whose sections were changed: sets the header's length, and
/// the checksum's four bytes (which must still end the frame) if it has one.
pub fn finish(frame: &mut [u8]) -> Result<(), WireError> {
    let length =
        i32::try_from(frame.len()).map_err(|_| WireError::Malformed("the frame is too long"))?;
    frame
        .first_chunk_mut::<4>()
        .ok_or(WireError::Malformed("the header is cut off"))?
        .copy_from_slice(&length.to_le_bytes());
    if has_checksum(frame)
        && let Some((covered, checksum)) = frame.split_last_chunk_mut::<4>()
    {
        *checksum = crc32c::crc32c(covered).to_le_bytes();
    }
    Ok(())
}

/// Whether the frame is an `OP_MSG` that says it ends in a checksum.
fn has_checksum(frame: &[u8]) -> bool {
    int32_at(frame, 12) == Some(opcode::MSG)
        && uint32_at(frame, HEADER).is_some_and(|flags| flags & flag::CHECKSUM_PRESENT != 0)
}

/// Checks the checksum of an `OP_MSG` that has one; gives where its sections end.
pub(super) fn sections_end(frame: &[u8], flags: u32) -> Result<usize, WireError> {
    if flags & flag::CHECKSUM_PRESENT == 0 {
        return Ok(frame.len());
    }
    let (covered, checksum) = frame
        .split_last_chunk::<4>()
        .filter(|(covered, _)| covered.len() >= HEADER + 4)
        .ok_or(WireError::Malformed("the checksum is cut off"))?;
    if crc32c::crc32c(covered).to_le_bytes() != *checksum {
        return Err(WireError::Checksum);
    }
    Ok(covered.len())
}

/// The little-endian `int32` at `at`, if it is there.
pub(super) fn int32_at(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_le_bytes(*bytes.get(at..)?.first_chunk::<4>()?))
}

/// The little-endian `uint32` at `at`, if it is there.
pub(super) fn uint32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk::<4>()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn header(length: i32) -> Vec<u8> {
        let mut bytes = Vec::new();
        Header::append(7, 5, opcode::MSG, &mut bytes);
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes
    }

    #[test]
    fn a_header_that_is_not_here_yet_is_incomplete_not_invalid() {
        let whole = header(100);
        for cut in 0..HEADER {
            assert_eq!(Header::read(&whole[..cut], MAX_MESSAGE), Ok(None));
        }
        let read = Header::read(&whole, MAX_MESSAGE).unwrap().unwrap();
        assert_eq!(
            (read.length, read.request_id, read.response_to),
            (100, 7, 5)
        );
    }

    #[test]
    fn a_length_outside_the_limit_is_refused_from_its_four_bytes_alone() {
        for length in [i32::MIN, -1, 0, 15, 48_000_001, i32::MAX] {
            let error = WireError::Length {
                announced: length,
                limit: MAX_MESSAGE,
            };
            assert_eq!(Header::read(&header(length)[..4], MAX_MESSAGE), Err(error));
        }
        assert!(
            Header::read(&header(48_000_000), MAX_MESSAGE)
                .unwrap()
                .is_some()
        );
        assert!(Header::read(&header(16), MAX_MESSAGE).unwrap().is_some());
    }

    #[test]
    fn a_mended_frame_has_its_length_and_checksum() {
        let mut frame = header(0);
        frame.extend_from_slice(&flag::CHECKSUM_PRESENT.to_le_bytes());
        frame.extend_from_slice(b"sections....");
        finish(&mut frame).unwrap();
        assert_eq!(Header::of(&frame).unwrap().length, 32);
        assert_eq!(sections_end(&frame, flag::CHECKSUM_PRESENT), Ok(28));
        frame[20] ^= 1;
        assert_eq!(
            sections_end(&frame, flag::CHECKSUM_PRESENT),
            Err(WireError::Checksum)
        );
    }

    #[test]
    fn the_checksum_is_crc32c() {
        // RFC 3720, B.4: 32 bytes of zeros.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8A91_36AA);
    }
}
