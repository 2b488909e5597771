// Package manifest is the backup manifest: which files make up a registered backup.
//
// A manifest is an immutable text document named by its SHA-256. It is a delta: it names its parent and lists the files
// that the backup added and those it released, and it states the count, the bytes and the Merkle root of the whole set
// that the chain of manifests reaches. The registry holds digest and root, so a [Set] rebuilt from any copy of the
// documents can be proven.
//
// # The document
//
// UTF-8 text, every line ended by one LF, fields parted by one space, no blank but the one line shown, at most
// [MaxDocumentBytes]:
//
//	dengbei-manifest/v1
//	repository <id>                      1 to 128 of a-z 0-9 . _ -, first a letter or digit
//	parent <64 hex>                      SHA-256 of the parent document, "-" in the first manifest
//	snapshot <64 hex>                    restic snapshot ID, "-" if the backup made none
//	set-root <64 hex>                    over the set after this document
//	set <files> <bytes>                  count and bytes of the set after this document
//	added <files> <bytes>                count and bytes of the + lines
//	released <files> <bytes>             count and bytes of the released files
//	(empty line)
//	+ <name> <bytes> <leaf root, 64 hex>
//	+ config <bytes> <leaf root, 64 hex> <SHA-256, 64 hex>
//	- <name>
//
// Numbers are decimal without sign or leading zero, hex is lower case. The lines after the empty one are in ascending byte
// order (LC_ALL=C sort), so all + lines come first; no name stands twice in a document. A name is "config" or
// "<directory>/<64 hex>" with directory one of data, documents, index, keys, snapshots; the hex is the SHA-256 of the
// file's bytes, which config carries in a column of its own. Sizes and sums fit a signed 64-bit integer.
//
// # The two roots
//
// Both are Merkle tree hashes as RFC 6962, section 2.1 defines them: SHA-256(0x00 ‖ leaf), SHA-256(0x01 ‖ left ‖ right),
// and SHA-256 of nothing for a tree without leaves. A file's leaf root is over its bytes cut into leaves of 64 KiB, the
// last one shorter. The set root is over the files of the set in ascending byte order of their names; the leaf of a file
// is its + line without "+ " and LF.
package manifest
