"""For programs of tests on a machine that forbids some system call."""

FILTERED = """
    import ctypes, errno, platform, struct
    def forbid(number, error):
        # A seccomp filter: that system call fails, all others go through.
        libc = ctypes.CDLL(None, use_errno=True)
        refuse, allow = 0x50000 | error, 0x7FFF0000
        steps = (0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, refuse), (0x06, 0, 0, allow)
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
        program = struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code))
        assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
        assert libc.prctl(22, 2, ctypes.c_char_p(program), 0, 0) == 0  # PR_SET_SECCOMP
    MEMFD, EVENTFD = {"x86_64": (319, 290), "aarch64": (279, 19)}[platform.machine()]
    RECVMSG = {"x86_64": 47, "aarch64": 212}[platform.machine()]
    PIDFD_OPEN, PIDFD_SEND_SIGNAL = 434, 424
"""
