//! A connection's bytes, in plain or by TLS, polled.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::inbound::Inbound;
use super::outbound::Outbound;

#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Reads into the buffer what is there, up to as much as it takes. Ready with how much it was, or with the
    /// failure.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        inbound: &mut Inbound,
    ) -> Poll<io::Result<usize>> {
        let mut total = 0;
        loop {
            let room = inbound.room();
            if room.is_empty() {
                return Poll::Ready(Ok(total));
            }
            let mut buffer = ReadBuf::new(room);
            let polled = match self {
                Self::Plain(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
                Self::Tls(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
            };
            let read = buffer.filled().len();
            match polled {
                Poll::Ready(Ok(())) if read > 0 => inbound.filled(read),
                // What came before the end is looked at first; the end is there at the next call too.
                _ if total > 0 => return Poll::Ready(Ok(total)),
                Poll::Ready(Ok(())) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
            total += read;
        }
    }

    /// Sends what waits. Ready when all of it is with the system.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>, out: &mut Outbound) -> Poll<io::Result<()>> {
        while out.waiting() > 0 {
            let polled = match self {
                Self::Plain(stream) => Pin::new(stream).poll_write(cx, out.unsent()),
                Self::Tls(stream) => Pin::new(stream).poll_write(cx, out.unsent()),
            };
            match polled {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(sent)) => out.sent(sent),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }
}
