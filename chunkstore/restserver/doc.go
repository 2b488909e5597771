// Package restserver serves repositories over restic's REST protocol, versions 1 and 2, so that stock restic, and whatever
// else speaks it, works with them from afar. It holds no keys: it sees names, sizes and ciphertext.
//
// A [Server] serves every repository below a directory, with users, quotas and an append-only mode. [Handler] serves a
// single [Store]; [RegisteredOnly] makes one that shows only files somebody vouches for and takes no writes: a file that
// was planted in the directory is not there for its clients.
//
// A file appears under its name only when its bytes were hashed, found to be what the name says and made durable; the
// answer 200 says so. Sending a stored file again is no error, so that a client whose answer was lost may repeat, also in
// append-only mode; nothing else replaces a file. Answers: 200 and 206 done, 400 the body is not what the name says or the
// request makes no sense, 401 who are you, 403 may not, 404 not there, 405 no such method, 411 and 413 body without end or
// too long, 416 no such range, 507 quota or disk full.
package restserver
