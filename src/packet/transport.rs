//! What does a TCP or UDP header say?

use super::header::{cut, option_kinds};
use super::{Malformed, TcpFlags};
use etherparse::{TcpHeaderSlice, UdpHeader, UdpHeaderSlice, err};

/// A TCP header (RFC 9293, section 3.1).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tcp {
    pub(super) source: u16,
    pub(super) destination: u16,
    pub(super) flags: TcpFlags,
    /// It signs the addresses.
    pub(super) signed: bool,
}

impl Tcp {
    #[inline]
    pub(super) fn read(segment: &[u8]) -> Result<Self, Malformed> {
        /// The kinds of options that sign: RFC 2385 and RFC 5925.
        const MD5: u8 = 19;
        const AUTHENTICATION: u8 = 29;

        let header = TcpHeaderSlice::from_slice(segment).map_err(|error| match error {
            err::tcp::HeaderSliceError::Len(error) => cut("TCP header", &error),
            err::tcp::HeaderSliceError::Content(err::tcp::HeaderError::DataOffsetTooSmall {
                data_offset,
            }) => Malformed::Short { part: "TCP header", says: usize::from(data_offset) * 4 },
        })?;
        Ok(Self {
            source: header.source_port(),
            destination: header.destination_port(),
            flags: TcpFlags {
                syn: header.syn(),
                ack: header.ack(),
                fin: header.fin(),
                rst: header.rst(),
            },
            signed: option_kinds(header.options()).any(|kind| matches!(kind, MD5 | AUTHENTICATION)),
        })
    }
}

/// A UDP header (RFC 768).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Udp {
    pub(super) source: u16,
    pub(super) destination: u16,
    /// The length of the datagram, at most what the IP packet has room for.
    pub(super) length: usize,
}

impl Udp {
    #[inline]
    pub(super) fn read(payload: &[u8]) -> Result<Self, Malformed> {
        let header =
            UdpHeaderSlice::from_slice(payload).map_err(|error| cut("UDP header", &error))?;
        let (length, there) = (usize::from(header.length()), payload.len());
        if length < UdpHeader::LEN {
            return Err(Malformed::Short { part: "UDP datagram", says: length });
        }
        if length > there {
            return Err(Malformed::Cut { part: "UDP datagram", needed: length, there });
        }
        Ok(Self { source: header.source_port(), destination: header.destination_port(), length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A SYN with options, from port 40000 to port 443.
    fn segment(options: &[u8]) -> Vec<u8> {
        let mut segment = vec![0x9c, 0x40, 1, 0xbb, 0, 0, 0, 1, 0, 0, 0, 0];
        segment.extend([(5 + options.len() as u8 / 4) << 4, 2, 4, 0, 0, 0, 0, 0]);
        segment.extend(options);
        segment
    }

    fn read_udp(length: u8) -> Result<usize, Malformed> {
        let datagram = [0x9c, 0x40, 0, 53, 0, length, 0, 0, 1, 2, 3, 4];
        Udp::read(&datagram).map(|udp| udp.length)
    }

    #[test]
    fn flags() {
        for (bits, flags) in [
            (0x02, TcpFlags { syn: true, ..TcpFlags::default() }),
            (0x12, TcpFlags { syn: true, ack: true, ..TcpFlags::default() }),
            (0x11, TcpFlags { fin: true, ack: true, ..TcpFlags::default() }),
            (0x04, TcpFlags { rst: true, ..TcpFlags::default() }),
            (0xe8, TcpFlags::default()),
        ] {
            let mut segment = segment(&[]);
            segment[13] = bits;
            let expected = Tcp { source: 40_000, destination: 443, flags, signed: false };
            assert_eq!(Tcp::read(&segment), Ok(expected));
        }
    }

    #[test]
    fn signed_segments() {
        let signed = |options: &[u8]| Tcp::read(&segment(options)).unwrap().signed;
        let mut md5 = [1; 20];
        md5[2..4].copy_from_slice(&[19, 18]);
        assert!(signed(&md5));
        assert!(signed(&[1, 1, 29, 4, 0, 0, 1, 1]));
        assert!(!signed(&[1, 1, 8, 10, 19, 18, 29, 4, 0, 0, 0, 0]), "inside another option");
        assert!(!signed(&[0, 19, 18, 0]), "behind the end of the options");
        assert!(!signed(&[1, 1, 19, 18]), "cut, which no receiver takes for MD5");
    }

    #[test]
    fn tcp_headers_that_cannot_be() {
        for (offset, error) in [
            (0x40, Malformed::Short { part: "TCP header", says: 16 }),
            (0x60, Malformed::Cut { part: "TCP header", needed: 24, there: 20 }),
        ] {
            let mut segment = segment(&[]);
            segment[12] = offset;
            assert_eq!(Tcp::read(&segment), Err(error));
        }
    }

    #[test]
    fn udp_lengths() {
        assert_eq!(read_udp(12), Ok(12));
        assert_eq!(read_udp(9), Ok(9), "the packet may go on behind it");
        let part = "UDP datagram";
        assert_eq!(read_udp(7), Err(Malformed::Short { part, says: 7 }));
        assert_eq!(read_udp(13), Err(Malformed::Cut { part, needed: 13, there: 12 }));
    }
}
