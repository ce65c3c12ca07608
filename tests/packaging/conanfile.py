"""One of ssehub's dependencies as this system has it: nothing is built, headers and libraries are where the compiler looks.

For tests/packaging/system.py, so that recipes can be tried without the network. Its version is `system`.
"""
from conan import ConanFile

LIBRARIES = {"asio": ["pthread"], "boost": ["pthread"], "cnats": ["nats"], "fmt": ["fmt"], "liburing": ["uring"]}


class SystemPackage(ConanFile):
    version = "system"
    options = {"header_only": [True, False]}
    default_options = {"header_only": True}

    def package_id(self):
        self.info.clear()

    def package_info(self):
        if self.name == "boost":
            self._use(self.cpp_info.components["headers"], LIBRARIES["boost"])
        elif self.name == "openssl":
            self._use(self.cpp_info.components["crypto"], ["crypto"])
            self._use(self.cpp_info.components["ssl"], ["ssl", "crypto"])
        else:
            self._use(self.cpp_info, LIBRARIES[self.name])
        if self.name == "asio":
            self.cpp_info.defines = ["ASIO_STANDALONE"]

    @staticmethod
    def _use(part, libraries):
        part.includedirs = part.libdirs = part.bindirs = []
        part.system_libs = libraries
