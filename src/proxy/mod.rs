//! Listener, connections, upstream.
