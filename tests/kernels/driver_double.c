// A driver that says yes to everything: it counts the kernels that are loaded and launched.
#include <string.h>

static int loads, launches;

int double_loads(void) { return loads; }
int double_launches(void) { return launches; }

int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
// Whatever is asked, as much as a block may have of shared memory.
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = 227 * 1024; return 0; }
int cuCtxGetCurrent(void **context) { *context = &loads; return 0; }
int cuGetErrorString(int error, const char **text) { *text = "not a cubin"; return 0; }
int cuModuleGetFunction(void **function, void *module, const char *name) { *function = module; return 0; }
int cuFuncGetAttribute(int *value, int attribute, void *function) { *value = 1024; return 0; }

int cuModuleLoadData(void **module, const void *image) {
  // An ELF file for the machine 190, CUDA.
  const unsigned char *bytes = image;
  if (memcmp(bytes, "\177ELF", 4) != 0 || bytes[18] != 190) return 200;
  *module = &loads;
  loads += 1;
  return 0;
}

int cuLaunchKernelEx(const void *config, void *function, void **arguments, void **extra) {
  launches += 1;
  return 0;
}
