//! The wiring, over real sockets.
