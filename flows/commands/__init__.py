"""The words of the `mno` command, by what they are about; `flows.cli` puts them together."""
