//! `OP_COMPRESSED`: never inflated beyond the size that was announced and checked.

use std::io::Read as _;

use super::frame::{HEADER, Header, WireError, finish, int32_at, opcode};

/// Where the compressed bytes begin: after the original opcode, the size and the compressor.
const COMPRESSED_BYTES: usize = HEADER + 9;

/// The compressors of the wire protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compressor {
    /// The bytes as they are.
    Noop,
    /// The raw format of snappy, without frames.
    Snappy,
    /// RFC 1950.
    Zlib,
    /// RFC 8878.
    Zstd,
}

impl Compressor {
    /// The compressor that `hello` calls `name`, if it is one that is offered to clients.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Snappy, Self::Zlib, Self::Zstd]
            .into_iter()
            .find(|compressor| compressor.name() == name)
    }

    /// Its name in `hello`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Noop => "noop",
            Self::Snappy => "snappy",
            Self::Zlib => "zlib",
            Self::Zstd => "zstd",
        }
    }

    fn id(self) -> u8 {
        match self {
            Self::Noop => 0,
            Self::Snappy => 1,
            Self::Zlib => 2,
            Self::Zstd => 3,
        }
    }

    fn with_id(id: u8) -> Option<Self> {
        [Self::Noop, Self::Snappy, Self::Zlib, Self::Zstd]
            .into_iter()
            .find(|compressor| compressor.id() == id)
    }

    /// Fills `out` with what `packed` holds, which must be exactly as much.
    fn inflate(self, packed: &[u8], out: &mut [u8]) -> Result<(), WireError> {
        let length = out.len();
        match self {
            Self::Noop if packed.len() == length => out.copy_from_slice(packed),
            Self::Noop => return Err(WireError::Compressed("the size is not the one announced")),
            Self::Snappy => {
                let announced = snap::raw::decompress_len(packed);
                if announced != Ok(length) {
                    return Err(WireError::Compressed("the size is not the one announced"));
                }
                snap::raw::Decoder::new()
                    .decompress(packed, out)
                    .map_err(|_| WireError::Compressed("not valid snappy"))?;
            }
            Self::Zlib => {
                let mut decoder = flate2::bufread::ZlibDecoder::new(packed);
                decoder
                    .read_exact(out)
                    .map_err(|_| WireError::Compressed("not valid zlib, or less than announced"))?;
                // Reads the checksum that ends the stream, too.
                let more = decoder.read(&mut [0]);
                if !matches!(more, Ok(0)) || !decoder.into_inner().is_empty() {
                    return Err(WireError::Compressed(
                        "not valid zlib, or more than announced",
                    ));
                }
            }
            Self::Zstd => {
                let inflated = zstd::bulk::decompress_to_buffer(packed, out)
                    .map_err(|_| WireError::Compressed("not valid zstd, or more than announced"))?;
                if inflated != length {
                    return Err(WireError::Compressed("the size is not the one announced"));
                }
            }
        }
        Ok(())
    }

    /// Builds in `out` the `OP_COMPRESSED` of `frame`, with its request id and what it responds to.
    pub fn compress(self, frame: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
        let header = Header::of(frame)?;
        let sections = frame.get(HEADER..).unwrap_or_default();
        let failed = |_| WireError::Compressed("the reply could not be compressed");
        let size = i32::try_from(sections.len())
            .map_err(|_| WireError::Malformed("the frame is too long"))?;
        out.clear();
        Header::append(
            header.request_id,
            header.response_to,
            opcode::COMPRESSED,
            out,
        );
        out.extend_from_slice(&header.opcode.to_le_bytes());
        out.extend_from_slice(&size.to_le_bytes());
        out.push(self.id());
        match self {
            Self::Noop => out.extend_from_slice(sections),
            Self::Snappy => {
                let room = snap::raw::max_compress_len(sections.len());
                out.resize(COMPRESSED_BYTES + room, 0);
                let written = snap::raw::Encoder::new()
                    .compress(sections, &mut out[COMPRESSED_BYTES..])
                    .map_err(|_| WireError::Compressed("the reply could not be compressed"))?;
                out.truncate(COMPRESSED_BYTES + written);
            }
            Self::Zlib => {
                let mut encoder =
                    flate2::bufread::ZlibEncoder::new(sections, flate2::Compression::default());
                encoder.read_to_end(out).map_err(failed)?;
            }
            Self::Zstd => {
                let packed = zstd::bulk::compress(sections, zstd::DEFAULT_COMPRESSION_LEVEL)
                    .map_err(failed)?;
                out.extend_from_slice(&packed);
            }
        }
        finish(out)
    }
}

/// Inflates an `OP_COMPRESSED` into the frame it stands for, built in `out`.
///
/// `limit` bounds the inflated frame. Gives the compressor, for the reply to use.
pub fn inflate(frame: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<Compressor, WireError> {
    let header = Header::of(frame)?;
    let cut_off = WireError::Compressed("the header is cut off");
    let original = int32_at(frame, HEADER).ok_or(cut_off)?;
    let announced = int32_at(frame, HEADER + 4).ok_or(cut_off)?;
    let (&id, packed) = frame
        .get(HEADER + 8..)
        .and_then(<[u8]>::split_first)
        .ok_or(cut_off)?;
    if original == opcode::COMPRESSED {
        return Err(WireError::Compressed("a compressed message within another"));
    }
    let compressor =
        Compressor::with_id(id).ok_or(WireError::Compressed("an unknown compressor"))?;
    let length = usize::try_from(announced)
        .ok()
        .and_then(|size| size.checked_add(HEADER))
        .filter(|length| *length <= limit)
        .ok_or(WireError::Length { announced, limit })?;
    out.clear();
    Header::append(header.request_id, header.response_to, original, out);
    out.resize(length, 0);
    compressor.inflate(packed, &mut out[HEADER..])?;
    // Only the length: an OP_MSG's checksum is the sender's, and is checked as such.
    let length = i32::try_from(length).map_err(|_| WireError::Length { announced, limit })?;
    out[..4].copy_from_slice(&length.to_le_bytes());
    Ok(compressor)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::doc;

    use super::*;
    use crate::wire::MAX_MESSAGE;
    use crate::wire::frame::flag;
    use crate::wire::testing::{body, msg};

    const ALL: [Compressor; 4] = [
        Compressor::Noop,
        Compressor::Snappy,
        Compressor::Zlib,
        Compressor::Zstd,
    ];

    fn frame() -> Vec<u8> {
        msg(
            flag::CHECKSUM_PRESENT,
            &body(&doc! {"ping": 1, "pad": "abc".repeat(500)}),
        )
    }

    fn compressed(compressor: Compressor) -> Vec<u8> {
        let mut out = Vec::new();
        compressor.compress(&frame(), &mut out).unwrap();
        out
    }

    /// The same message with another announced size.
    fn lying(compressor: Compressor, by: i32) -> Vec<u8> {
        let mut packed = compressed(compressor);
        let honest = int32_at(&packed, HEADER + 4).unwrap();
        packed[HEADER + 4..HEADER + 8].copy_from_slice(&honest.wrapping_add(by).to_le_bytes());
        packed
    }

    #[test]
    fn every_compressor_gives_back_the_same_frame() {
        for compressor in ALL {
            let packed = compressed(compressor);
            assert!(compressor == Compressor::Noop || packed.len() < frame().len());
            let mut back = vec![9; 3];
            assert_eq!(inflate(&packed, MAX_MESSAGE, &mut back), Ok(compressor));
            assert_eq!(back, frame());
        }
    }

    #[test]
    fn an_announced_size_that_is_not_the_real_one_is_an_error() {
        for compressor in ALL {
            for by in [-1529, -1528, -100, -1, 1, 100] {
                assert!(inflate(&lying(compressor, by), MAX_MESSAGE, &mut Vec::new()).is_err());
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_by_its_announced_size_before_it_is_inflated() {
        for compressor in ALL {
            let mut out = Vec::new();
            let announced = i32::MAX;
            let honest = int32_at(&compressed(compressor), HEADER + 4).unwrap();
            let bomb = lying(compressor, announced - honest);
            let error = WireError::Length {
                announced,
                limit: MAX_MESSAGE,
            };
            assert_eq!(inflate(&bomb, MAX_MESSAGE, &mut out), Err(error));
            assert_eq!(out.capacity(), 0);
        }
    }

    #[test]
    fn a_bomb_that_announces_little_stops_at_what_it_announced() {
        let big = vec![0; 4_000_000];
        let bombs = [
            (
                Compressor::Snappy,
                snap::raw::Encoder::new().compress_vec(&big).unwrap(),
            ),
            (Compressor::Zstd, zstd::bulk::compress(&big, 3).unwrap()),
            (Compressor::Zlib, {
                let mut out = Vec::new();
                flate2::read::ZlibEncoder::new(&big[..], flate2::Compression::best())
                    .read_to_end(&mut out)
                    .unwrap();
                out
            }),
        ];
        for (compressor, packed) in bombs {
            let mut bomb = Vec::new();
            Header::append(1, 0, opcode::COMPRESSED, &mut bomb);
            bomb.extend_from_slice(&opcode::MSG.to_le_bytes());
            bomb.extend_from_slice(&100_i32.to_le_bytes());
            bomb.push(compressor.id());
            bomb.extend_from_slice(&packed);
            finish(&mut bomb).unwrap();
            let mut out = Vec::new();
            assert!(inflate(&bomb, MAX_MESSAGE, &mut out).is_err());
            assert!(out.capacity() < 1000);
        }
    }

    #[test]
    fn a_compressed_message_within_another_is_refused() {
        let mut packed = compressed(Compressor::Noop);
        packed[HEADER..HEADER + 4].copy_from_slice(&opcode::COMPRESSED.to_le_bytes());
        assert!(inflate(&packed, MAX_MESSAGE, &mut Vec::new()).is_err());
    }

    #[test]
    fn unknown_compressors_and_broken_streams_are_errors() {
        for compressor in ALL {
            let whole = compressed(compressor);
            for cut in 0..whole.len() {
                let mut frame = whole[..cut].to_vec();
                if finish(&mut frame).is_ok() {
                    assert!(inflate(&frame, MAX_MESSAGE, &mut Vec::new()).is_err());
                }
            }
            let mut trailing = [&whole[..], &[0]].concat();
            finish(&mut trailing).unwrap();
            assert!(inflate(&trailing, MAX_MESSAGE, &mut Vec::new()).is_err());
        }
        for id in 4..=255 {
            let mut packed = compressed(Compressor::Noop);
            packed[HEADER + 8] = id;
            assert!(inflate(&packed, MAX_MESSAGE, &mut Vec::new()).is_err());
        }
    }
}
