@echo off
rem Installs sessionip on this Windows, or brings it up to date. Run it as
rem administrator, from the unpacked bundle. A configuration that is there stays.
setlocal EnableExtensions DisableDelayedExpansion
set "from=%~dp0"
set "to=%ProgramFiles%\sessionip"
set "data=%ProgramData%\sessionip"
set "programs=sessionip.exe sessionip_hook.dll sessionip_hook32.dll sessionip_inject32.exe sessionip_inject64.exe WinDivert.dll WinDivert64.sys"
set "papers=README.txt NOTICE LICENSE-MIT LICENSE-APACHE LICENSE-WinDivert THIRD-PARTY.txt"

for %%F in (%programs% %papers% sessionip.toml) do if not exist "%from%%%F" (
    echo %%F is not beside this script: unpack the whole bundle, then run it from there. 1>&2
    exit /b 1
)

if not exist "%to%\" md "%to%" 2>nul
(echo may I write here?>"%to%\install.tmp") 2>nul
if not exist "%to%\install.tmp" (
    echo Cannot write to "%to%": run this script as administrator. 1>&2
    exit /b 1
)
del "%to%\install.tmp"

rem What programs still had in use when it was replaced.
del /q "%to%\*.old" >nul 2>&1

set updated=
if exist "%to%\sessionip.exe" sc query sessionip >nul 2>&1 && (
    set updated=yes
    "%to%\sessionip.exe" service stop || exit /b 1
)
for %%F in (%programs% %papers%) do (
    call :put %%F || exit /b 1
)
"%to%\sessionip.exe" --version || (
    echo sessionip.exe does not start: it needs 64-bit Windows Server 2016 or newer. 1>&2
    exit /b 1
)
"%to%\sessionip.exe" service install || exit /b 1

set kept=
if exist "%data%\sessionip.toml" (
    set kept=yes
) else (
    copy /y "%from%sessionip.toml" "%data%\sessionip.toml" >nul || (
        echo Cannot write "%data%\sessionip.toml". 1>&2
        exit /b 1
    )
)
if not defined kept (
    echo sessionip is installed and does not run yet. Write the addresses that it may give into
    echo   "%data%\sessionip.toml"
    echo and then start it:
    echo   "%to%\sessionip.exe" service start
    exit /b 0
)
"%to%\sessionip.exe" check-config "%data%\sessionip.toml" || (
    echo The service is installed and not started: correct the configuration, then
    echo   "%to%\sessionip.exe" service start
    exit /b 1
)
"%to%\sessionip.exe" service start || exit /b 1
if defined updated (echo sessionip is up to date and runs.) else (echo sessionip is installed and runs.)
exit /b 0

rem Puts a file into its place. One that is in use, such as the hook in programs that
rem run, cannot be overwritten, but be given another name.
:put
copy /y "%from%%1" "%to%\%1" >nul 2>&1 && exit /b 0
ren "%to%\%1" "%1.%RANDOM%.old" >nul 2>&1
copy /y "%from%%1" "%to%\%1" >nul 2>&1 && exit /b 0
echo Cannot write "%to%\%1". 1>&2
exit /b 1
