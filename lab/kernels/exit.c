/* Ends the virtual machine: qemu's isa-debug-exit device listens on that port. */
#include <sys/io.h>
#include <unistd.h>
int main(void)
{
	sync();
	if (ioperm(0xf4, 8, 1) == 0)
		outb(0, 0xf4);
	return 1;
}
