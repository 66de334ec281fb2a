//! From a recipient to a send connector and its next hops.
