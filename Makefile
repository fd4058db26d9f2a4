# caplet: thin lines over cargo. `make demo` shows it, `make test` proves it, `make install` installs it.
PREFIX ?= /usr
DESTDIR ?=
# Whose idiom the PAM file is in: debian (common-auth) or redhat (system-auth).
PAM_FAMILY ?= $(if $(wildcard /etc/pam.d/system-auth),redhat,debian)
BINDIR = $(PREFIX)/bin
LIBEXECDIR = $(PREFIX)/libexec/caplet
export CAPLET_BINDIR = $(BINDIR)
export CAPLET_LIBEXECDIR = $(LIBEXECDIR)

.PHONY: build demo test lint sabotage mutants hostile kernels fuzz bench picture install install-files package-files pages deb rpm packages-check packages-test clean

build:
	@lab/build.sh

demo:
	@lab/prepare.sh demo
	@lab/build.sh
	@lab/as-root.sh env CAPLET_BUILD="$(CURDIR)/target/release" bash lab/demo.sh

test:
	@lab/prepare.sh test
	@lab/test.sh

lint:
	@lab/cargo.sh fmt --check
	@lab/cargo.sh clippy --workspace --all-targets -- -D warnings
	@lab/crates.py

sabotage:
	@lab/prepare.sh test
	@lab/as-root.sh bash lab/sabotage.sh

# cargo-mutants on FILES of the helper ("plan capset"); what its unit tests miss is tried on the system tests. Hours.
mutants: build
	@lab/prepare.sh test
	@lab/as-root.sh env CAPLET_BUILD="$(CURDIR)/target/release" PATH="$(PATH)" lab/mutants.py $(FILES)

# The attacks of lab/ATTACKS.md, failing calls, weakened helpers, fuzzing: up to half an hour.
hostile:
	@lab/prepare.sh test
	@lab/as-root.sh bash lab/hostile.sh

# The lab tests on other kernels, under qemu: KERNELS="bullseye bookworm trixie sid selinux systemd", QUICK=1, FULL=1, TESTS="claims".
KERNELS ?= bullseye bookworm trixie sid selinux systemd
kernels:
	@lab/prepare.sh kernels
	@lab/as-root.sh env KERNELS="$(KERNELS)" QUICK="$(QUICK)" FULL="$(FULL)" TESTS="$(TESTS)" lab/kernels.sh

# SECONDS_EACH of every fuzz target, from the seeds and what earlier runs found.
SECONDS_EACH ?= 10
fuzz:
	@lab/prepare.sh fuzz
	@lab/fuzz.sh $(SECONDS_EACH)

# RESULTS=FILE: writes the reports there too.
bench: build
	@lab/prepare.sh test
	@lab/prepare.sh peers
	@lab/as-caller.sh bench/peers.sh target/peers
	@lab/as-root.sh env CAPLET_BUILD="$(CURDIR)/target/release" CAPLET_PEERS="$(CURDIR)/target/peers" bench/all.sh $(RESULTS)

# The README's picture, from a real login in a throwaway machine.
picture: build
	@lab/as-root.sh env CAPLET_BUILD="$(CURDIR)/target/release" PATH="$(PATH)" lab/cargo.sh run -q -p caplet-lab --example picture -- docs/session.svg

# Never overwrites a policy or a PAM file, nor the mode of a folder. As root the helper gets its setuid bit.
install: build install-files

# What goes where: also the packages are made of this, in their own DESTDIR. HELPER_MODE: the mode of the helper.
BUILD ?= target/release
HELPER_MODE ?= $(if $(filter 0,$(shell id -u)),4755,0755)
SHARE = $(DESTDIR)$(PREFIX)/share
ZSH_COMPLETIONS = zsh/$(if $(filter debian,$(PAM_FAMILY)),vendor-completions,site-functions)
install-files:
	for folder in $(BINDIR) $(LIBEXECDIR) /etc/caplet /etc/caplet/policy.d /etc/pam.d; do \
	[ -d "$(DESTDIR)$$folder" ] || install -d "$(DESTDIR)$$folder" || exit 1; done
	install -m 0755 $(BUILD)/caplet "$(DESTDIR)$(BINDIR)/caplet"
	ln -sf caplet "$(DESTDIR)$(BINDIR)/caplet-shell"
	install -m $(HELPER_MODE) $(BUILD)/caplet-helper "$(DESTDIR)$(LIBEXECDIR)/caplet-helper"
	if [ ! -e "$(DESTDIR)/etc/caplet/policy.toml" ]; then \
	install -m 0640 etc/policy.toml "$(DESTDIR)/etc/caplet/policy.toml"; fi
	if [ ! -e "$(DESTDIR)/etc/pam.d/caplet" ]; then \
	install -m 0644 etc/pam.d/caplet.$(PAM_FAMILY) "$(DESTDIR)/etc/pam.d/caplet"; fi
	install -D -m 0644 etc/ssh/sshd_config.d/caplet.conf "$(SHARE)/doc/caplet/examples/sshd-caplet.conf"
	install -D -m 0644 etc/policy.toml "$(SHARE)/doc/caplet/examples/policy.toml"
	for page in man/*.[1-8]; do install -D -m 0644 $$page "$(SHARE)/man/man$${page##*.}/$${page##*/}" || exit 1; done
	install -D -m 0644 completions/caplet.bash "$(SHARE)/bash-completion/completions/caplet"
	install -D -m 0644 completions/_caplet "$(SHARE)/$(ZSH_COMPLETIONS)/_caplet"
	install -D -m 0644 completions/caplet.fish "$(SHARE)/fish/vendor_completions.d/caplet.fish"

# What only a package can also put there: these files are for the machine's own tools, which act on packages.
package-files: install-files
	install -D -m 0644 etc/tmpfiles.d/caplet.conf "$(DESTDIR)/usr/lib/tmpfiles.d/caplet.conf"
	if [ "$(PAM_FAMILY)" = debian ]; then \
	install -D -m 0644 etc/shells.d/caplet "$(SHARE)/debianutils/shells.d/caplet"; fi

# Made again where the command line or the handbook has changed; a test says so.
pages:
	CAPLET_WRITE_PAGES=1 lab/cargo.sh test -q -p caplet --bin caplet pages

# Into target/packages.
deb:
	@lab/prepare.sh deb
	@packaging/build-deb.sh

rpm:
	@lab/prepare.sh rpm
	@packaging/build-rpm.sh

# Builds and lints both packages: what of the next needs no other machine.
packages-check:
	@lab/prepare.sh packages-check
	@packaging/test.sh cheap

# Lints, two builds bit for bit, and the life of both packages in throwaway roots (SUITES of Debian and Ubuntu).
packages-test:
	@lab/prepare.sh packages
	@packaging/test.sh

clean:
	@lab/cargo.sh clean
