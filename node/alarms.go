package node

import (
	"fmt"
	"sync"
)

// alarms are what a person must look at, the newest last.
type alarms struct {
	mu   sync.Mutex // guards list
	text []string
}

const maxAlarms = 100

func (a *alarms) add(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.text); n > 0 && a.text[n-1] == text {
		return
	}
	a.text = append(a.text, text)
	if len(a.text) > maxAlarms {
		a.text = a.text[1:]
	}
}

func (a *alarms) list() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.text...)
}

// alarm logs what a person must act on and keeps it for the status.
func (n *Node) alarm(what string, err error) {
	n.log.Error(what, "err", err)
	n.alarms.add(fmt.Sprintf("%s: %v", what, err))
}
