"""The certificate of an audit: a page to read, a crate for programs, digests and a signature."""
