package harness

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
)

// beNice adds to the niceness of the calling thread, which its children inherit
// (setpriority(2): niceness is of a thread).
func beNice(n int) error {
	if n == 0 {
		return nil
	}
	// The system call returns 20 minus the niceness.
	now, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	if err != nil {
		return err
	}
	return syscall.Setpriority(syscall.PRIO_PROCESS, 0, 20-now+n)
}

func sysProcAttr(spec processSpec) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Setpgid:    true,
		Pdeathsig:  spec.orphaned,
		Credential: spec.as.credential(),
	}
}

// procStat reads the state and the parent of a process from /proc/PID/stat
// (proc_pid_stat(5)); ok is false when there is no such process.
func procStat(pid int) (state byte, parent int, ok bool) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, false
	}
	// The name is in parentheses and may itself hold spaces and parentheses.
	_, rest, found := bytes.Cut(raw[bytes.LastIndexByte(raw, ')')+1:], []byte(" "))
	fields := bytes.Fields(rest)
	if !found || len(fields) < 2 {
		return 0, 0, false
	}
	parent, err = strconv.Atoi(string(fields[1]))
	return fields[0][0], parent, err == nil
}

// alive reports whether the process exists and is more than a zombie.
func alive(pid int) bool {
	state, _, ok := procStat(pid)
	return ok && state != 'Z' && state != 'X'
}

// childrenOf returns the pids of the direct children of a process.
func childrenOf(pid int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var children []int
	for _, e := range entries {
		child, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if _, parent, ok := procStat(child); ok && parent == pid {
			children = append(children, child)
		}
	}
	return children, nil
}
