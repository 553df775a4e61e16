//! One shared page per worker: who it is, what it does, how long; and the gateway's figures.
