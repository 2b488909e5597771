// Package fournature is the four-nature inspection 四性检测 of a submission (DA/T 70-2018): authenticity, integrity,
// usability and safety.
//
// A [Scheme] is the named, versioned list of items for one link; [YJ] is the one for transfer and receipt. [Inspect] runs
// it over a [Package] in one pass over the bytes and gives a [Report] whose encoding is deterministic, so that its digest
// can stand in a certificate. An item that was not run is reported as not run, with the reason, and never as passed.
//
// The package decides nothing about the submission: officers and policies read the report. Its item numbers follow DA/T
// 70 as far as they are known, X numbers are this system's own; it does not claim to cover the whole standard.
package fournature
