// Package chunktest holds what the tests of the chunk store share, and what other stores of files are tried with.
//
// [TestFiles] is the suite that every store of files passes: the local directory, [Memory], and [Faulty], which has
// single calls fail, hang, or be done and reported failed.
//
// Below a local directory stand disks: [Recorder] writes down each step, from which it tells every state that a power cut
// may leave ([Recorder.Crashes]), [FailingDisk] has single steps fail, [SmallDisk] is soon full, and [LazyDisk] does not
// wait for the device.
//
// It is for tests only; what goes wrong ends the test.
package chunktest
