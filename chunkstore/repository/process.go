package repository

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
)

// whoAndWhere names this host and this user for people; a file without them is as good.
func whoAndWhere() (hostname, username string) {
	hostname, _ = os.Hostname()
	if u, err := user.Current(); err == nil {
		username = u.Username
	}
	return hostname, username
}

// thisProcess names this process so that none before it or elsewhere has the same name: by the boot of the machine, the
// space of process numbers, the number and the start. It is empty where the system does not tell.
func thisProcess() string {
	place, ok := processSpace()
	if !ok {
		return ""
	}
	start, ok := processStart(os.Getpid())
	if !ok {
		return ""
	}
	return fmt.Sprintf("%s %d %s", place, os.Getpid(), start)
}

// ended reports whether the process that [thisProcess] named has ended for certain: it was one of this boot and of this
// space of numbers, and its number is free or another's.
func ended(process string) bool {
	words := strings.Fields(process)
	if len(words) != 4 {
		return false
	}
	place, ok := processSpace()
	if !ok || place != words[0]+" "+words[1] {
		return false
	}
	pid, err := strconv.Atoi(words[2])
	if err != nil || pid <= 0 {
		return false
	}
	// That this process is seen proves that /proc shows what is running.
	if _, ok := processStart(os.Getpid()); !ok {
		return false
	}
	_, err = os.Stat("/proc/" + strconv.Itoa(pid))
	if os.IsNotExist(err) {
		return true
	}
	start, ok := processStart(pid)
	return ok && start != words[3]
}

// processSpace names the boot and the space of process numbers, in two words.
func processSpace() (string, bool) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", false
	}
	space, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "", false
	}
	place := strings.TrimSpace(string(boot)) + " " + space
	return place, len(strings.Fields(place)) == 2
}

// processStart returns when a process started, in ticks since boot: the twenty-second field of its status, counted behind
// its name, which may hold blanks and brackets.
func processStart(pid int) (string, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", false
	}
	s := string(b)
	fields := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	const start = 22 - 3 // the first field behind the name is the third
	if len(fields) <= start {
		return "", false
	}
	return fields[start], true
}
