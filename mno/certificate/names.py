"""The files of a certificate's folder."""

from __future__ import annotations

PAGE = "certificate.html"
AUDIT = "audit.json"
BILL = "environment.cdx.json"
METADATA = "ro-crate-metadata.json"
SUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.sig"
SIGNER = "signer.pem"
