//! What lies where in a link's memory.
