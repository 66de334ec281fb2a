//! Exchange's logs: protocol log lines, files, rotation; and the session event.
