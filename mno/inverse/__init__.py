"""Questions asked backwards: what is not measured, from what is. An annex; needs `mno[inverse]`."""
